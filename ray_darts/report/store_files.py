"""The objects of a store as files of fsspec, read only, so that pyarrow and pandas read any store alike.

An object is read whole when it is opened, with the store's own settings and credentials.
"""

from __future__ import annotations

import io

from fsspec import AbstractFileSystem

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.errors import MissingObject


class StoreFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Keys are paths. Listing is not offered: name the keys."""

    protocol = "ray-darts"
    cachable = False

    def __init__(self, store: ObjectStore) -> None:
        super().__init__()
        self._store = store

    def info(self, path: str, **options: object) -> dict[str, object]:
        """Name, type and size of an object. Raises: FileNotFoundError."""
        return {"name": path, "type": "file", "size": len(self._read(path))}

    def _open(self, path: str, mode: str = "rb", **options: object) -> io.BytesIO:
        if mode != "rb":
            raise OSError(f"{path}: a store is only read here")
        return io.BytesIO(self._read(path))

    def _read(self, path: str) -> bytes:
        try:
            return self._store.get(path).data
        except MissingObject as error:
            raise FileNotFoundError(str(error)) from error
