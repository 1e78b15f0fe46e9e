"""A store in a folder: atomic creation by hard link, replacement by rename, swap under flock.

Everything is flushed to the disk, names included, before a call returns, also when an earlier call's flush failed.
Temporary files start with a dot and are never listed, except as leftovers. Knows no layout: any key of plain names
works.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from ray_darts.artifacts.file_system import flush_folder, lock_exclusively, name_once, write_flushed
from ray_darts.artifacts.objects import Conflict, Listed, ObjectStore, Stored, sha256
from ray_darts.errors import ConfigError, CorruptObject, MissingObject, StoreDenied, StoreUnavailable

_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_PUT_ATTEMPTS = 10
_LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.tmp")


class LocalStore(ObjectStore):
    """The ObjectStore contract on one file system; `root` is made when the first object is written."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        base = next(folder for folder in (self._root, *self._root.parents) if folder.is_dir())
        self._flushed = {base, *base.parents}

    @property
    def uri(self) -> str:
        return str(self._root)

    def get(self, key: str) -> Stored:
        with self._translated(key), open(self._path(key), "rb", opener=_without_waiting) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise CorruptObject(f"{key} in {self.uri} is no regular file", key=key)
            data = file.read()
        return Stored(data, sha256(data), _age_s(facts.st_mtime))

    def exists(self, key: str) -> bool:
        with self._translated(key):
            return self._path(key).is_file()

    def put(self, key: str, data: bytes) -> None:
        with self._translated(key):
            self._write(key, data, os.replace)

    def put_if_absent(self, key: str, data: bytes) -> None:
        def name(temporary: Path, path: Path) -> None:
            try:
                name_once(temporary, path)
            except FileExistsError:
                self._flush(path.parent)  # what is there may be our own, put by a call whose flush failed
                raise Conflict(f"{key} exists already", key=key) from None

        with self._translated(key):
            self._write(key, data, name)

    def compare_and_swap(self, key: str, data: bytes, etag: str) -> None:
        with self._locked(key):
            seen = self.get(key).etag
            if seen != etag:
                self._flush(self._path(key).parent)  # as above
                raise Conflict(f"{key} has changed: its tag is {seen[:16]}…, not {etag[:16]}…", key=key)
            self.put(key, data)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._translated(key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink(missing_ok=True)
            _lock_of(path).unlink(missing_ok=True)  # of what is deleted, only probes were ever swapped, by one process
            self._flush(path.parent)  # somebody else may have removed the folder since
        with contextlib.suppress(OSError):  # keep folders that still hold something
            path.parent.rmdir()
            self._flushed.discard(path.parent)

    def list_objects(self, prefix: str) -> Iterator[Listed]:
        with self._translated(prefix):
            yield from sorted(self._walk(prefix))

    def list_leftovers(self, prefix: str) -> Iterator[Listed]:
        with self._translated(prefix):
            yield from sorted(self._walk(prefix, leftovers=True))

    def list_folders(self, prefix: str) -> list[str]:
        folder = self._path(prefix)
        with self._translated(prefix):
            names = [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
            return sorted(name for name in names if any(self._walk(f"{prefix}{name}/")))

    def server_time(self) -> datetime:
        return datetime.now(UTC)

    def _walk(self, prefix: str, leftovers: bool = False) -> Iterator[Listed]:
        for folder, _, files in os.walk(self._path(prefix)):
            for name in files:
                if _LEFTOVER.fullmatch(name) is None if leftovers else name.startswith("."):
                    continue
                path = Path(folder, name)
                try:
                    facts = path.stat()
                except FileNotFoundError:  # removed while we list
                    continue
                yield Listed(path.relative_to(self._root).as_posix(), facts.st_size, _age_s(facts.st_mtime))

    def _path(self, key: str) -> Path:
        names = key.rstrip("/").split("/") if key else []
        if any(name in ("", ".", "..") or "\0" in name for name in names):
            raise ConfigError(f"{key!r} is no key")
        return self._root.joinpath(*names)

    def _write(self, key: str, data: bytes, name: Callable[[Path, Path], object]) -> None:
        """Write a flushed file beside `key`, let `name(temporary, path)` name it, and flush the folder.

        Begins again where a delete or a collection has removed the file or its folder meanwhile.
        """
        path = self._path(key)
        for _ in range(_PUT_ATTEMPTS):
            temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
            try:
                self._make_folder(path.parent)
                write_flushed(temporary, data)
                name(temporary, path)
                self._flush(path.parent)
            except FileNotFoundError:
                continue
            finally:
                with contextlib.suppress(OSError):  # what stays is a leftover, which a collection removes
                    temporary.unlink()
            return
        raise StoreUnavailable(f"{self.uri}: the folder of {key} was removed {_PUT_ATTEMPTS} times in a row", key=key)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and flush its name; the name of one that is there is flushed once by each process."""
        if folder in self._flushed and folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        self._flush(folder.parent)
        self._flushed.add(folder)

    def _flush(self, folder: Path) -> None:
        flush_folder(folder)

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        path = self._path(key)
        with self._translated(key), _lock_of(path).open("wb") as lock:
            lock_exclusively(lock)
            yield

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingObject(f"there is no {key} in {self.uri}", key=key) from error
        except OSError as error:
            if error.errno in _DENIED:
                raise StoreDenied(
                    f"{self.uri} refuses {key}: {error.strerror}; make the folder writable or name another store",
                    key=key,
                ) from error
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise CorruptObject(f"{key} in {self.uri} is no regular file: {error.strerror}", key=key) from error
            raise StoreUnavailable(f"{self.uri} fails on {key}: {error.strerror or error}", key=key) from error


def _without_waiting(path: str, flags: int) -> int:
    """Open a pipe at once, whoever writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _age_s(modified: float) -> float:
    return max(0.0, time.time() - modified)
