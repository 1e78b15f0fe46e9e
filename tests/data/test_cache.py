"""Files that a node makes once: one maker at a time, room for new ones, nothing removed that is in use."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ray_darts.data.cache import LocalCache, NoCacheRoom
from ray_darts.errors import DataError

BLOCK = 1 << 20


def filled(folder: Path, blocks: int = 1) -> Mapping[str, Any]:
    (folder / "content").write_bytes(b"x" * (blocks * BLOCK))
    return {"blocks": blocks}


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir() if entry.is_dir()}


def aged(folder: Path, key: str, seconds: float) -> None:
    lock = folder / f"{key}.lock"
    os.utime(lock, (time.time() - seconds,) * 2)


def test_an_entry_is_made_once_and_others_wait_for_it(tmp_path: Path) -> None:
    made: list[int] = []

    def make(folder: Path) -> Mapping[str, Any]:
        made.append(1)
        time.sleep(0.2)
        return filled(folder)

    found: list[Mapping[str, Any]] = []

    def open_it() -> None:
        found.append(LocalCache(tmp_path / "new" / "cache", None).open("a", BLOCK, make).facts)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), found) == (1, [{"blocks": 1}] * 4)


def test_the_entry_used_longest_ago_makes_room_and_one_in_use_never(tmp_path: Path) -> None:
    cache = LocalCache(tmp_path, int(3.5 * BLOCK))
    held = cache.open("oldest", BLOCK, filled)
    for age, key in ((20, "older"), (10, "young")):
        cache.open(key, BLOCK, filled)
        aged(tmp_path, key, age)
    aged(tmp_path, "oldest", 30)
    cache.open("new", BLOCK, filled)
    assert names(tmp_path) == {"oldest", "young", "new"}
    assert not (tmp_path / "older.lock").exists()
    with pytest.raises(NoCacheRoom, match=r"other data that are in use take 0\.00105 of 0\.00367 GB"):
        cache.open("large", 3 * BLOCK, lambda folder: filled(folder, 3))
    assert names(tmp_path) == {"oldest"}, "what nobody used was removed before"
    assert (held.folder / "content").exists()
    del held
    gc.collect()
    cache.open("large", 3 * BLOCK, lambda folder: filled(folder, 3))
    assert names(tmp_path) == {"large"}


def test_what_can_never_fit_removes_nothing(tmp_path: Path) -> None:
    LocalCache(tmp_path, BLOCK * 2).open("a", BLOCK, filled)
    with pytest.raises(NoCacheRoom, match=r"need 0\.0105 GB .* 0\.0021 GB may be used \(data\.cache_bytes\): raise"):
        LocalCache(tmp_path, BLOCK * 2).open("b", 10 * BLOCK, filled)
    with pytest.raises(NoCacheRoom, match=r"half of the disk's free space"):
        LocalCache(tmp_path, None).open("c", 1 << 60, filled)
    assert names(tmp_path) == {"a"}


def test_what_a_failed_maker_left_is_found_by_the_next(tmp_path: Path) -> None:
    cache = LocalCache(tmp_path, None)

    def fail(folder: Path) -> Mapping[str, Any]:
        (folder / "begun").touch()
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        cache.open("a", BLOCK, fail)

    def go_on(folder: Path) -> Mapping[str, Any]:
        return {"begun": (folder / "begun").exists()}

    assert cache.open("a", BLOCK, go_on).facts == {"begun": True}


def test_a_killed_maker_lets_the_next_one_go_on(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib; from ray_darts.data.cache import LocalCache\n"
        "def make(folder): (folder / 'begun').touch(); print('making', flush=True); time.sleep(60)\n"
        "LocalCache(pathlib.Path(sys.argv[1]), None).open('a', 1, make)"
    )
    maker = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    assert maker.stdout.readline() == "making\n"
    results: list[Mapping[str, Any]] = []

    def wait() -> None:
        results.append(LocalCache(tmp_path, None).open("a", 1, lambda f: {"begun": (f / "begun").exists()}).facts)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.2)
    assert waiting.is_alive(), "the maker holds its lock"
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    maker.stdout.close()
    waiting.join(10)
    assert results == [{"begun": True}]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match=r"data\.cache_path .*/cache cannot be used: Permission denied"):
        LocalCache(tmp_path / "cache", None).open("a", 1, filled)


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match=r"data\.cache_path .*/cache cannot be used: File exists"):
        LocalCache(tmp_path / "cache", None).open("a", 1, filled)


def test_what_a_maker_raises_is_raised_by_those_that_waited_for_it(tmp_path: Path) -> None:
    made: list[int] = []

    def fail(folder: Path) -> Mapping[str, Any]:
        made.append(1)
        time.sleep(0.3)
        raise DataError("a bad picture")

    raised: list[str] = []

    def open_it() -> None:
        with pytest.raises(DataError) as caught:
            LocalCache(tmp_path, None).open("a", BLOCK, fail)
        raised.append(str(caught.value))

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), raised) == (1, ["a bad picture"] * 4)
    assert LocalCache(tmp_path, None).open("a", BLOCK, filled).facts == {"blocks": 1}, "a later one tries again"


def test_two_entries_that_are_made_at_once_keep_the_limit_together(tmp_path: Path) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(folder: Path) -> Mapping[str, Any]:
        begun.set()
        may_end.wait(10)
        return filled(folder, 3)

    cache = LocalCache(tmp_path, 4 * BLOCK)
    maker = threading.Thread(target=lambda: cache.open("a", 3 * BLOCK, slow))
    maker.start()
    begun.wait(10)
    try:
        with pytest.raises(NoCacheRoom, match="in use"):
            LocalCache(tmp_path, 4 * BLOCK).open("b", 3 * BLOCK, lambda folder: filled(folder, 3))
    finally:
        may_end.set()
        maker.join()


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_an_entry_whose_files_are_not_whole_is_made_again(tmp_path: Path, damage: str) -> None:
    cache = LocalCache(tmp_path, None)
    content = cache.open("a", BLOCK, filled).folder / "content"
    if damage == "gone":
        content.unlink()
    else:
        os.truncate(content, 10)
    gc.collect()
    cache.open("a", BLOCK, filled)
    assert content.stat().st_size == BLOCK


def test_use_is_what_makes_an_entry_young(tmp_path: Path) -> None:
    cache = LocalCache(tmp_path, int(2.5 * BLOCK))
    for key in ("a", "b"):
        cache.open(key, BLOCK, filled)
    aged(tmp_path, "a", 20)
    aged(tmp_path, "b", 10)
    cache.open("a", BLOCK, filled)
    gc.collect()
    cache.open("c", BLOCK, filled)
    assert names(tmp_path) == {"a", "c"}
