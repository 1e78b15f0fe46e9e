"""A store in a folder whose flushes and deletes fail on schedule, and that knows what a power cut would leave."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import Stored
from ray_darts.errors import MissingObject, StoreError
from tests.artifacts.memory_store import Killed, Scheduled

FlushFault = Literal["failed", "swept", "killed"]
FLUSH_FAULTS: tuple[FlushFault, ...] = ("failed", "swept", "killed")


class _WouldWait(BaseException):
    """A process that acts while another one holds a lock would wait for it. Nothing in the package may catch it."""


class FolderStore(Scheduled, LocalStore):
    """`at_flush[i]` is the fault of the i-th flush of a folder from now on.

    `failed`: EIO, nothing is flushed; `swept`: `sweep()` comes between the change and its flush; `killed`: the process
    ends there and leaves a temporary file. `refused_deletes`: how many deletes are refused, as by a server without the
    request.
    """

    def __init__(self, root: Path) -> None:
        LocalStore.__init__(self, root)
        Scheduled.__init__(self)
        self.objects = _Objects(self)
        self.at_flush: list[FlushFault | None] = []
        self.refused_deletes = 0
        self._names: dict[Path, set[str]] = {}
        self._held: set[str] = set()

    def meanwhile(self, act: Callable[[], None]) -> None:
        """Somebody else acts, up to where it would wait for a lock that is held here."""
        with suppress(_WouldWait):
            super().meanwhile(act)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        if key in self._held:
            raise _WouldWait
        self._held.add(key)
        try:
            with super()._locked(key):
                yield
        finally:
            self._held.discard(key)

    def get(self, key: str) -> Stored:
        self.read()
        return LocalStore.get(self, key)

    def put(self, key: str, data: bytes) -> None:
        self.write("PUT", key, lambda: LocalStore.put(self, key, data))

    def put_if_absent(self, key: str, data: bytes) -> None:
        self.write("CREATE", key, lambda: LocalStore.put_if_absent(self, key, data))

    def delete(self, key: str) -> None:
        if self.refused_deletes:
            self.refused_deletes -= 1
            raise StoreError(f"{key}: 405 MethodNotAllowed")
        self.write("DELETE", key, lambda: LocalStore.delete(self, key))

    def survives(self, key: str) -> bool:
        """Whether a power cut now would leave the object: each name on its path was there when it was flushed."""
        path = self._path(key)
        names = [path, *path.parents[: len(path.relative_to(self._root).parts) - 1]]
        return all(name.name in self._names.get(name.parent, set()) for name in names)

    def temporary_files(self) -> list[Path]:
        """What puts have left."""
        return sorted(self._root.rglob(".*.tmp"))

    def _flush(self, folder: Path) -> None:
        fault = self.at_flush.pop(0) if self.at_flush else None
        if fault == "failed":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if fault == "killed":
            (folder / f".{uuid.uuid4().hex}.tmp").write_bytes(b"half")
            raise Killed
        if fault == "swept":
            rest, self.at_flush = self.at_flush, []
            try:
                self.meanwhile(self.sweep)
            finally:
                self.at_flush = rest
        super()._flush(folder)
        self._names[folder] = {entry.name for entry in os.scandir(folder)}


class _Objects(Mapping[str, bytes]):
    """What lies in a store, read past its faults."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def __getitem__(self, key: str) -> bytes:
        try:
            return self._store.get(key).data
        except MissingObject:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return (entry.key for entry in self._store.list_objects(""))

    def __len__(self) -> int:
        return sum(1 for _ in self)
