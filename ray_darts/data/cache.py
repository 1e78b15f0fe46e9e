"""Files that a node makes once from data that lie elsewhere, and shares among its processes. Knows no data set.

`<folder>/<key>/` is one entry, `<folder>/<key>.lock` its lock: whoever makes it or removes it holds the lock alone,
whoever uses it shares it. Locks end with their processes, so nothing has to be tidied after a kill. An entry is one
when its facts are there and its files have the sizes that the facts say.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_darts.data.memory import gigabytes
from ray_darts.errors import DataError

logger = logging.getLogger("ray_darts.data")

_FACTS, _FAILED, _RESERVED = "facts.json", "failed.json", "reserved"
_ROOM = ".room"
_SHARE_OF_FREE_DISK = 0.5


class NoCacheRoom(DataError):
    """The cache, or its disk, has no room for an entry or cannot be used."""


@dataclass(frozen=True)
class Entry:
    """A finished entry; nobody removes it while this object lives. `facts`: what its maker left."""

    folder: Path
    facts: Mapping[str, Any]
    _lock: _Lock


class LocalCache:
    """Entries below `folder`, together at most `limit_bytes`; without it they may take half of the disk's free space.

    Entries that nobody uses are removed, the least recently used first, when a new one needs their room.
    """

    def __init__(self, folder: Path, limit_bytes: int | None) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes

    def open(self, key: str, num_bytes: int, make: Callable[[Path], Mapping[str, Any]]) -> Entry:
        """The entry `key`; where there is none, `make` fills its folder and returns its facts (JSON-able).

        One process at a time makes an entry and the others wait for it, or for what it raises. After a kill the next
        one finds what was in the folder and may go on from there. `num_bytes`: of the whole entry.
        Raises: NoCacheRoom, also for a disk that cannot be used; what `make` raises.
        """
        asked_s = time.time()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = _Lock(self._folder / f"{key}.lock")
            while (facts := self._facts(lock, key)) is None:
                with lock.held_alone():
                    if _read_facts(self._folder / key) is None:
                        self._fill(key, num_bytes, make, asked_s)
            lock.mark_use()
        except OSError as error:
            raise NoCacheRoom(f"data.cache_path {self._folder} cannot be used: {error.strerror or error}") from error
        return Entry(self._folder / key, facts, lock)

    def _facts(self, lock: _Lock, key: str) -> Mapping[str, Any] | None:
        """The facts of a finished entry, which is then kept by the shared lock."""
        lock.share()
        return _read_facts(self._folder / key)

    def _fill(self, key: str, num_bytes: int, make: Callable[[Path], Mapping[str, Any]], asked_s: float) -> None:
        entry = self._folder / key
        _raise_failure(entry / _FAILED, asked_s)
        with _Lock(self._folder / f"{_ROOM}.lock").held_alone():
            self._make_room(key, num_bytes)
            entry.mkdir(exist_ok=True)
            for name in (_FACTS, _FAILED):
                (entry / name).unlink(missing_ok=True)
            (entry / _RESERVED).write_text(str(num_bytes))
        try:
            facts = make(entry)
        except DataError as error:
            write_whole(entry / _FAILED, json.dumps({"text": str(error), "at_s": time.time()}))
            raise
        (entry / _RESERVED).unlink()
        sizes = {file.name: _synced_size(file) for file in entry.iterdir()}
        write_whole(entry / _FACTS, json.dumps({"facts": facts, "sizes": sizes}))

    def _make_room(self, key: str, num_bytes: int) -> None:
        most = self._most_bytes()
        if num_bytes > most:
            limit = "half of the disk's free space" if self._limit_bytes is None else "data.cache_bytes"
            raise NoCacheRoom(
                f"the data need {gigabytes(num_bytes)} GB in data.cache_path {self._folder}, {gigabytes(most)} GB may "
                f"be used ({limit}): raise data.cache_bytes, or set data.cache_path to a larger disk"
            )
        others = sorted((file for file in self._folder.glob("[!.]*.lock") if file.stem != key), key=_last_use)
        taken = {file.stem: _bytes_of(self._folder / file.stem) for file in others}
        for file in others:
            if sum(taken.values()) + num_bytes <= most:
                return
            if taken[file.stem] and _removed(self._folder / file.stem, file):
                logger.info("removed %s from data.cache_path: its room is needed", self._folder / file.stem)
                taken[file.stem] = 0
        if sum(taken.values()) + num_bytes > most:
            raise NoCacheRoom(
                f"the data need {gigabytes(num_bytes)} GB in data.cache_path {self._folder}, where other data that are "
                f"in use take {gigabytes(sum(taken.values()))} of {gigabytes(most)} GB: raise data.cache_bytes"
            )

    def _most_bytes(self) -> int:
        """The limit, but never more than the disk holds beside what else lies there."""
        free = shutil.disk_usage(self._folder).free
        held = sum(_bytes_on_disk(entry) for entry in self._folder.iterdir() if entry.is_dir())
        if self._limit_bytes is None:
            return held + int(_SHARE_OF_FREE_DISK * free)
        return min(self._limit_bytes, held + free)


def open_cache(path: str, limit_bytes: int | None) -> LocalCache:
    """The cache of the settings `cache_path` and `cache_bytes`. Raises: NoCacheRoom for the home of nobody."""
    try:
        return LocalCache(Path(path).expanduser(), limit_bytes)
    except RuntimeError as error:
        raise NoCacheRoom(f"data.cache_path {path}: {error}") from error


class _Lock:
    """A lock file; the lock of this object ends with it, or with the process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor = -1
        self._open()

    def _open(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def share(self) -> None:
        """Wait until nobody holds the lock alone, and share it."""
        self._take(fcntl.LOCK_SH)

    @contextmanager
    def held_alone(self) -> Iterator[None]:
        """Wait until nobody else has the lock, and hold it alone in the block."""
        self._take(fcntl.LOCK_EX)
        self.mark_use()
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _take(self, kind: int) -> None:
        while True:
            fcntl.flock(self._descriptor, kind)
            if _is_open_as(self._file, self._descriptor):
                return
            self._open()  # whoever removed the entry has removed this file, too

    def mark_use(self) -> None:
        """Note the time of use."""
        os.utime(self._descriptor)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def write_whole(file: Path, text: str) -> None:
    """Replace `file` as a whole: a reader sees the old text or the new one."""
    new = file.with_name(f"{file.name}.new")
    with open(new, "w") as target:
        target.write(text)
        target.flush()
        os.fsync(target.fileno())
    os.replace(new, file)


def _read_facts(entry: Path) -> Mapping[str, Any] | None:
    """Of a finished entry whose files are whole; else None."""
    try:
        found = json.loads((entry / _FACTS).read_text())
        if all((entry / name).stat().st_size == size for name, size in found["sizes"].items()):
            facts: Mapping[str, Any] = found["facts"]
            return facts
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None


def _raise_failure(file: Path, asked_s: float) -> None:
    """Raise what the maker met for which this process has waited."""
    try:
        failure = json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return
    if failure["at_s"] >= asked_s:
        raise DataError(failure["text"])


def _synced_size(file: Path) -> int:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    return file.stat().st_size


def _removed(entry: Path, lock_file: Path) -> bool:
    """Remove an entry that no process uses, and its lock file."""
    try:
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return not entry.exists()
    except PermissionError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_open_as(lock_file, descriptor):
            return False
        (entry / _FACTS).unlink(missing_ok=True)  # first: what is left after a kill is no entry
        shutil.rmtree(entry)
        os.unlink(lock_file)
    except (BlockingIOError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True


def _is_open_as(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _last_use(lock_file: Path) -> float:
    try:
        return lock_file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _bytes_of(entry: Path) -> int:
    """What an entry takes, or will take when it is made."""
    try:
        reserved = int((entry / _RESERVED).read_text() or 0)
    except (FileNotFoundError, NotADirectoryError):
        reserved = 0
    return max(reserved, _bytes_on_disk(entry))


def _bytes_on_disk(folder: Path) -> int:
    """Of all files below `folder`, 0 where there is none."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total
