"""Pixels in memory, in a mapped file and decoded ahead: the same batches, through losses of processes."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_darts.data.batch import Shard
from ray_darts.data.images.decoding_room import DecodingRoom
from ray_darts.data.images.pictures import Picture, PictureShape
from ray_darts.data.images.pixels import MappedPixels
from ray_darts.data.images.streamed import StreamedPixels
from ray_darts.errors import DataError
from tests.data.decoded import pixels_of_set
from tests.data.files import png, write_parquet
from tests.data.held_out import must_open
from tests.data.loading import CPU, MODES, PIXELS, assert_equal, batches, in_folders, in_parquet, load


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


def test_a_changed_file_is_read_again_and_a_place_elsewhere_is_not(tmp_path: Path) -> None:
    path = in_folders(tmp_path / "data")
    first = load("folder", path, "mapped", on_error="skip")
    path.rename(tmp_path / "moved")
    moved = load("folder", tmp_path / "moved", "mapped", on_error="skip")
    assert moved.facts.description.notes[-2] == first.facts.description.notes[-2]
    assert moved.facts.description.loading_bytes == 0, "nothing was decoded"
    (tmp_path / "moved" / "train" / "c0" / "0008.png").write_bytes(png(PIXELS[1]))
    assert load("folder", tmp_path / "moved", "mapped", on_error="skip").digests != first.digests


@pytest.mark.slow
def test_a_reader_that_was_killed_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = in_folders(tmp_path / "data")
    program = f"""
import os, signal
from pathlib import Path
from ray_darts.data.images import decoding, reading
from tests.data.loading import load
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
    decode = DecodingRoom.decode

    def counted(self: DecodingRoom, picture: Picture, shape: PictureShape) -> object:
        decoded.append(picture)
        return decode(self, picture, shape)

    monkeypatch.setattr(DecodingRoom, "decode", counted)
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
