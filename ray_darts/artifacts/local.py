"""A store in a folder: atomic creation by hard link, atomic replacement by rename, compare-and-swap under flock.

Everything is flushed to the disk, names included, before a call returns. Temporary files start with a dot and are
never listed. Knows no layout: any key of plain names works.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ray_darts.artifacts.objects import Conflict, Listed, ObjectStore, Stored, sha256
from ray_darts.errors import ConfigError, MissingObject, StoreDenied, StoreUnavailable

_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_MAKE_FOLDER_ATTEMPTS = 10


class LocalStore(ObjectStore):
    """The ObjectStore contract on one file system; `root` is made when the first object is written."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def uri(self) -> str:
        return str(self._root)

    def get(self, key: str) -> Stored:
        with self._translated(key), self._path(key).open("rb") as file:
            data = file.read()
            age_s = _age_s(os.fstat(file.fileno()).st_mtime)
        return Stored(data, sha256(data), age_s)

    def exists(self, key: str) -> bool:
        with self._translated(key):
            return self._path(key).is_file()

    def put(self, key: str, data: bytes) -> None:
        with self._translated(key), self._temporary(key, data) as temporary:
            os.replace(temporary, self._path(key))

    def put_if_absent(self, key: str, data: bytes) -> None:
        with self._translated(key), self._temporary(key, data) as temporary:
            try:
                os.link(temporary, self._path(key))
            except FileExistsError:
                raise Conflict(f"{key} exists already", key=key) from None

    def compare_and_swap(self, key: str, data: bytes, etag: str) -> None:
        with self._locked(key):
            seen = self.get(key).etag
            if seen != etag:
                raise Conflict(f"{key} has changed: its tag is {seen[:16]}…, not {etag[:16]}…", key=key)
            self.put(key, data)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._translated(key):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _lock_of(path).unlink(missing_ok=True)  # of what is deleted, only probes were ever swapped, by one process
            _flush_folder(path.parent)
        with contextlib.suppress(OSError):  # keep folders that still hold something
            path.parent.rmdir()

    def list_objects(self, prefix: str) -> Iterator[Listed]:
        with self._translated(prefix):
            yield from sorted(self._walk(prefix))

    def list_folders(self, prefix: str) -> list[str]:
        folder = self._path(prefix)
        with self._translated(prefix):
            names = [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
            return sorted(name for name in names if any(self._walk(f"{prefix}{name}/")))

    def server_time(self) -> datetime:
        return datetime.now(UTC)

    def _walk(self, prefix: str) -> Iterator[Listed]:
        for folder, _, files in os.walk(self._path(prefix)):
            for name in files:
                if name.startswith("."):
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

    @contextlib.contextmanager
    def _temporary(self, key: str, data: bytes) -> Iterator[Path]:
        """A flushed file beside `key` for the caller to link or rename; the folder is flushed afterwards."""
        path = self._path(key)
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        _write_flushed(temporary, data)
        try:
            yield temporary
            _flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        path = self._path(key)
        with self._translated(key), _lock_of(path).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
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
            raise StoreUnavailable(f"{self.uri} fails on {key}: {error.strerror or error}", key=key) from error


def _write_flushed(path: Path, data: bytes) -> None:
    for attempt in range(_MAKE_FOLDER_ATTEMPTS):
        _make_folder(path.parent)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileNotFoundError:  # a delete removed the empty folder between the two calls
            if attempt + 1 == _MAKE_FOLDER_ATTEMPTS:
                raise
            continue
        break
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _make_folder(folder: Path) -> None:
    """Make a folder whose name survives a power cut."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _flush_folder(folder.parent)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _age_s(modified: float) -> float:
    return max(0.0, time.time() - modified)
