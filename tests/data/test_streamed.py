"""Pictures that are decoded ahead: through losses of processes, changes of files, large row groups."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ray_darts.data.batch import Batch, Shard
from ray_darts.data.images.decoding_pool import DecodingPool, ProcessLost
from ray_darts.data.images.streamed import StreamedPixels, StreamedSeries
from ray_darts.errors import DataError
from tests.data.files import png, write_parquet
from tests.data.loading import CPU, PIXELS, SEARCH, assert_equal, batches, in_folders, in_parquet, load


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
    others = children("spawn_main")  # ranks that other tests of this session share

    def kill() -> None:
        while not done.wait(0.01):
            for process in children("spawn_main"):
                if process not in others:
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


@pytest.mark.slow
def test_decoding_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    path = in_parquet(tmp_path / "data")
    program = f"""
import time
from pathlib import Path
from tests.data.loading import CPU, SEARCH, Shard, load
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
