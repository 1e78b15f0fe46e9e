"""Pixels in memory, in a mapped file and decoded ahead: the same batches, through losses of processes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_darts.config import load_config
from ray_darts.data.batch import Batch, Shard
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.decoding import Decoder
from ray_darts.data.images.decoding_pool import DecodingPool, ProcessLost
from ray_darts.data.images.pictures import Picture
from ray_darts.data.images.pixels import MappedPixels
from ray_darts.data.images.streamed import StreamedPixels, StreamedSeries
from ray_darts.data.images.streams import ImageSet, load_images
from ray_darts.errors import DataError
from tests.data.decoded import pixels_of_set
from tests.data.files import png, random_pixels, write_class_folders, write_parquet
from tests.data.held_out import must_open

PIXELS = random_pixels(120)
WHOLE = Shard()
MODES = ("memory", "mapped", "streamed")
CPU = torch.device("cpu")
SEARCH = load_config("digits", overrides=["search.batch_size=12", "search.epochs=2"]).search


def load(source: str, path: Path, mode: str, memory_bytes: int = 10**9, **settings: object) -> ImageSet:
    plain = {"source": source, "path": str(path), "loading": mode, "cache_path": str(path.parent / "cache")}
    return load_images(Images.model_validate({"padding": 1, "flip": True, **plain, **settings}), memory_bytes)


def in_parquet(folder: Path) -> Path:
    encoded: list[bytes | None] = [png(picture) for picture in PIXELS]
    write_parquet(folder / "train-0.parquet", encoded[:50], [0, 1] * 25)
    write_parquet(folder / "train-1.parquet", encoded[50:], [0, 1] * 35, struct=True)
    write_parquet(folder / "test.parquet", encoded[:3], [0, 1, 0])
    return folder


def in_folders(folder: Path) -> Path:
    write_class_folders(folder / "train", PIXELS)
    write_class_folders(folder / "test", PIXELS[:3])
    for name in ("c0/0004.png", "c1/0071.png"):
        (folder / "train" / name).write_bytes(b"no picture")
    return folder


def batches(data: ImageSet, shard: Shard = WHOLE) -> list[Batch]:
    """Of two epochs, and the evaluation after them."""
    streams = data.streams(SEARCH, 0)
    steps = [(epoch, index) for epoch in range(2) for index in range(streams.num_steps(epoch))]
    return [
        *(batch for epoch, index in steps for batch in streams.bilevel_batches(epoch, index, shard, CPU)),
        *streams.evaluation_batches(shard, CPU),
    ]


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)


@pytest.mark.parametrize("source", ["folder", "parquet"])
def test_all_three_give_the_same_batches_at_any_world_size(tmp_path: Path, source: str) -> None:
    path = {"folder": in_folders, "parquet": in_parquet}[source](tmp_path / "data")
    kept: dict[str, Any] = {"on_error": "skip"} if source == "folder" else {}
    memory, *others = (load(source, path, mode, **kept) for mode in MODES)
    whole = batches(memory)
    test = must_open(memory)
    for data in others:
        assert (data.digests, data.documents, data.mean, data.std) == (
            memory.digests,
            memory.documents,
            memory.mean,
            memory.std,
        )
        assert_equal(batches(data), whole)
        shards = [batches(data, Shard(rank, 3)) for rank in range(3)]
        for number, batch in enumerate(whole):
            parts = [shard[number].inputs for shard in shards]
            assert torch.equal(torch.cat(parts), batch.inputs)
        opened = must_open(data)
        assert opened.digest == test.digest
        assert_equal(list(opened.batches(Shard(), CPU)), list(test.batches(Shard(), CPU)))


def test_the_first_that_there_is_room_for_is_chosen(tmp_path: Path) -> None:
    path = in_parquet(tmp_path / "data")
    num_bytes = PIXELS.nbytes
    assert load("parquet", path, "auto", 4 * num_bytes).facts.description.memory_bytes == num_bytes
    mapped = load("parquet", path, "auto", 4 * num_bytes - 1)
    assert isinstance(mapped.pixels, MappedPixels)
    note = mapped.facts.description.notes[-2]
    assert note.startswith(f"pixels are in {tmp_path / 'cache' / 'mapped-'}")
    assert note.endswith("/pixels (2.3e-05 GB), which the workers of a node share (data.loading)")
    small: dict[str, Any] = {"cache_bytes": 16 * len(PIXELS), "cache_path": str(tmp_path / "small")}
    streamed = load("parquet", path, "auto", 4 * num_bytes - 1, **small)
    assert isinstance(streamed.pixels, StreamedPixels)
    with pytest.raises(DataError, match=r"the data need 2\.3e-05 GB in data\.cache_path .* 1\.92e-06 GB may be used"):
        load("parquet", path, "mapped", **small)


def test_a_lost_process_changes_no_batch_and_its_requests_are_done_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = in_parquet(tmp_path / "data")
    whole = batches(load("parquet", path, "memory"))
    data = load("parquet", path, "streamed")
    assert isinstance(data.pixels, StreamedPixels)
    streams = data.streams(SEARCH, 0)
    found: list[Batch] = []
    for step in range(10):
        found += streams.bilevel_batches(step // 5, step % 5, Shard(), CPU)
        if step in (2, 6):
            os.kill(data.pixels.process_ids[step % 2], signal.SIGKILL)
    assert_equal(found, whole[:20])
    assert caplog.text.count("a process that decodes pictures was lost") in (1, 2), (
        "a kill after the last request is none"
    )
    assert streams.bilevel_batches(1, 0, Shard(), CPU)[0].inputs.equal(whole[10].inputs), "also back again"


def test_time_spent_waiting_is_measured_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_darts.data.images.streamed._JUDGED_AFTER_S", 0.0)
    data = load("parquet", in_parquet(tmp_path / "data"), "streamed", loader_processes=1)
    series = data.pixels.series(lambda position: np.arange(40), 40)
    assert isinstance(series, StreamedSeries)
    for position in range(30):
        series.at(position)
    assert 0 < series.waited_s <= series.passed_s
    assert "of the time is spent waiting for pictures: raise data.loader_processes" in caplog.text


def test_a_picture_that_changed_since_the_data_were_read_is_named(tmp_path: Path) -> None:
    path = in_folders(tmp_path / "data")
    data = load("folder", path, "streamed", on_error="skip")
    (path / "train" / "c0" / "0008.png").write_bytes(png(PIXELS[1]))
    with pytest.raises(DataError, match=r"c0/0008\.png is another picture than when the data were read first"):
        batches(data)


def test_a_changed_file_is_read_again_and_a_place_elsewhere_is_not(tmp_path: Path) -> None:
    path = in_folders(tmp_path / "data")
    first = load("folder", path, "mapped", on_error="skip")
    path.rename(tmp_path / "moved")
    moved = load("folder", tmp_path / "moved", "mapped", on_error="skip")
    assert moved.facts.description.notes[-2] == first.facts.description.notes[-2]
    assert moved.facts.description.loading_bytes == 0, "nothing was decoded"
    (tmp_path / "moved" / "train" / "c0" / "0008.png").write_bytes(png(PIXELS[1]))
    assert load("folder", tmp_path / "moved", "mapped", on_error="skip").digests != first.digests


def test_a_reader_that_was_killed_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = in_folders(tmp_path / "data")
    program = f"""
import os, signal
from pathlib import Path
from ray_darts.data.images import decoding, reading
from tests.data.test_loading import load
decoding._MOST_AT_ONCE, reading._SAVED_EVERY_BYTES = 16, 1
write, seen = reading._write_at, []
def killed(*arguments):
    seen.append(write(*arguments))
    if len(seen) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
reading._write_at = killed
load("folder", Path({str(path)!r}), "mapped", on_error="skip")
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    whole = load("folder", path, "memory", on_error="skip")
    decoded: list[object] = []
    decode_one = Decoder._decode_one

    def counted(self: Decoder, picture: Picture) -> object:
        decoded.append(picture)
        return decode_one(self, picture)

    monkeypatch.setattr(Decoder, "_decode_one", counted)
    data = load("folder", path, "mapped", on_error="skip")
    assert len(decoded) in (120 - 3 * 16, 120 - 4 * 16), "what was saved is not decoded again"
    assert (data.digests, data.documents, data.mean) == (whole.digests, whole.documents, whole.mean)
    assert np.array_equal(pixels_of_set(data), pixels_of_set(whole))


def test_a_failed_reading_leaves_nothing_that_fails_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that did not answer for one picture: it is neither left out later, nor missing for ever."""
    path = in_folders(tmp_path / "data")
    monkeypatch.setattr("ray_darts.data.images.decoding._MOST_AT_ONCE", 16)
    monkeypatch.setattr("ray_darts.data.images.reading._SAVED_EVERY_BYTES", 1)
    read_bytes = Path.read_bytes

    def stale(self: Path) -> bytes:
        if self.name == "0030.png":
            raise OSError(116, "Stale file handle")
        return read_bytes(self)

    with monkeypatch.context() as outage:
        outage.setattr(Path, "read_bytes", stale)
        with pytest.raises(DataError, match=r"0030\.png cannot be read: Stale file handle"):
            load("folder", path, "mapped", on_error="skip")
    data = load("folder", path, "mapped", on_error="skip")
    assert data.documents == load("folder", path, "memory", on_error="skip").documents


KEYS: dict[str, dict[str, Any]] = {
    "image_column": {"image_column": "other"},
    "image_size": {"image_size": 16},
    "fraction": {"fraction": 0.5},
    "alpha_fraction": {"alpha_fraction": 0.25},
    "background": {"background": "black"},
    "max_skipped": {"on_error": "skip", "max_skipped": 3},
    "label_column": {"label_column": "second"},
}


@pytest.mark.parametrize("name", KEYS)
def test_whatever_changes_pixels_or_labels_has_an_entry_of_its_own(tmp_path: Path, name: str) -> None:
    encoded: list[bytes | None] = [png(picture) for picture in PIXELS]
    file = write_parquet(tmp_path / "data" / "a.parquet", encoded, [0, 1] * 60)
    table = pq.read_table(file)
    table = table.append_column("other", pa.array([*encoded[1:], encoded[0]], pa.binary()))
    pq.write_table(table.append_column("second", pa.array([1, 0] * 60)), file)
    plain = load("parquet", file.parent, "mapped")
    changed = load("parquet", file.parent, "mapped", **KEYS[name])
    assert changed.facts.description.notes[-2] != plain.facts.description.notes[-2]
    memory = load("parquet", file.parent, "memory", **KEYS[name])
    assert (changed.digests, changed.mean) == (memory.digests, memory.mean)


def test_a_loaded_set_keeps_its_entry_from_being_removed(tmp_path: Path) -> None:
    path = in_parquet(tmp_path / "data")
    limit: dict[str, Any] = {"cache_bytes": PIXELS.nbytes + 15_000}
    held = load("parquet", path, "mapped", **limit)
    with pytest.raises(DataError, match="other data that are in use take"):
        load("parquet", path, "mapped", fraction=0.9, **limit)
    del held
    gc.collect()
    load("parquet", path, "mapped", fraction=0.9, **limit)


def test_files_that_lost_rows_are_named_and_never_made_up(tmp_path: Path) -> None:
    encoded: list[bytes | None] = [png(picture) for picture in PIXELS]
    file = write_parquet(tmp_path / "data" / "a.parquet", encoded, [0, 1] * 60)
    data = load("parquet", file.parent, "streamed")
    write_parquet(file, encoded[:100], [0, 1] * 50)
    with pytest.raises(DataError, match=r"a\.parquet .*(changed|cannot be read)"):
        data.pixels.take(np.array([5, 110]))


def test_a_process_that_dies_at_its_start_is_replaced(tmp_path: Path) -> None:
    """Its decoder is larger than a pipe holds."""
    path = in_parquet(tmp_path / "data")
    data = load("parquet", path, "streamed", loader_processes=1)
    assert isinstance(data.pixels, StreamedPixels)
    decoder = replace(data.pixels._decoder, rows=np.arange(10**6), hashes=np.zeros(10**6, np.uint64))
    pool = DecodingPool(decoder, 1)
    done = threading.Event()

    def kill() -> None:
        while not done.wait(0.01):
            for process in children("spawn_main"):
                os.kill(process, signal.SIGKILL)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(ProcessLost):
            pool.submit(np.arange(3)).result(30)
    finally:
        done.set()
        killer.join()


def children(word: str) -> list[int]:
    """Processes of this one whose command holds `word`."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(child) for child in found if word.encode() in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_decoding_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    path = in_parquet(tmp_path / "data")
    program = f"""
import time
from pathlib import Path
from tests.data.test_loading import CPU, SEARCH, Shard, load
if __name__ == "__main__":
    data = load("parquet", Path({str(path)!r}), "streamed")
    data.streams(SEARCH, 0).bilevel_batches(0, 0, Shard(), CPU)
    print(*data.pixels.process_ids, flush=True)
    time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    processes = [int(number) for number in parent.stdout.readline().split()]
    assert len(processes) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 10
    while any(_is_running(process) for process in processes):
        assert time.monotonic() < until, "a process outlived its parent"
        time.sleep(0.1)


def _is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_large_row_groups_are_read_in_pieces_and_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = in_parquet(tmp_path / "data")
    whole = batches(load("parquet", path, "memory"))
    monkeypatch.setattr("ray_darts.data.images.parquet._LARGE_GROUP_BYTES", 0)
    monkeypatch.setattr("ray_darts.data.images.parquet._ROWS_AT_ONCE", 2)
    monkeypatch.setattr("ray_darts.data.images.loading._MUCH_TO_READ_BYTES", 100)
    assert_equal(batches(load("parquet", path, "memory")), whole)
    data = load("parquet", path, "streamed")
    (warning,) = (text for text in data.facts.description.warnings if "row group" in text)
    assert "fewer rows a group" in warning
    rows = np.array([7, 3, 3, 119, 0])
    assert np.array_equal(data.pixels.take(rows).numpy(), PIXELS[rows])
