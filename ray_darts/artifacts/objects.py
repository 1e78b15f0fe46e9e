"""What a store must do: whole objects of bytes under keys, created once, replaced, compared and swapped.

`LocalStore` and `S3Store` pass one contract suite. Everything above speaks this contract only; what a conflict or a
lost answer means is settled here once, in `create`. Knows no layout and no content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple, Protocol

from ray_darts.errors import CorruptObject, MissingObject, StoreError


class Conflict(StoreError):
    """A condition did not hold: the key exists already, or its ETag is another; facts: key.

    After a lost answer and a retry inside the store, the object that is in the way may be our own: read it back.
    """


class Stored(NamedTuple):
    """One whole object. `etag` is opaque; `age_s` is its age by the store's own clock."""

    data: bytes
    etag: str
    age_s: float


class Listed(NamedTuple):
    """One entry of a listing; `age_s` as in Stored."""

    key: str
    num_bytes: int
    age_s: float


class ObjectStore(Protocol):
    """Objects under keys like `a/b/c.json`. Each call is atomic, and a success is durable and seen by the next read.

    Every call may raise StoreUnavailable (no usable answer: a write may or may not have happened; try again later)
    or StoreDenied (a right or credential is missing: trying again is useless).
    """

    @property
    def uri(self) -> str:
        """Where the store lies, as it was named; never holds a credential."""
        ...

    @property
    def server(self) -> str:
        """The store and, where one answers for it, its server, for messages."""
        return self.uri

    def get(self, key: str) -> Stored:
        """Raises: MissingObject."""
        ...

    def exists(self, key: str) -> bool:
        """Whether an object lies under `key`, without reading it."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write or replace."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Create. Raises: Conflict when the key exists."""
        ...

    def compare_and_swap(self, key: str, data: bytes, etag: str) -> None:
        """Replace the object that has this ETag. Raises: Conflict on another ETag, MissingObject on none."""
        ...

    def delete(self, key: str) -> None:
        """Remove; a missing key is no error."""
        ...

    def list_objects(self, prefix: str) -> Iterator[Listed]:
        """All objects under a prefix that ends in `/` (or is empty), in the order of keys."""
        ...

    def list_leftovers(self, prefix: str) -> Iterator[Listed]:
        """What killed puts have left under a prefix: no objects, but keys that `delete` takes. A put in progress begins
        again when its own is deleted. None where a put leaves nothing."""
        return iter(())

    def list_folders(self, prefix: str) -> list[str]:
        """Names one level below a prefix that ends in `/` (or is empty) and have objects below them, sorted."""
        ...

    def server_time(self) -> datetime:
        """The store's own clock, with a time zone."""
        ...

    def refuses_damage(self, key: str) -> bool | None:
        """Put an object with a wrong SHA-256 under `key`: whether it is refused; None where no server compares."""
        return None


def create(store: ObjectStore, key: str, data: bytes) -> bytes | None:
    """Create an object that is never replaced; None when `data` lies there now, else the bytes that were first.

    A conflict is believed only after reading back, so a lost answer costs nothing. Callers whose bytes could equal
    another writer's put a nonce into them. Raises: StoreUnavailable when nothing is known; call again then.
    """
    try:
        store.put_if_absent(key, data)
    except Conflict:
        there = store.get(key).data
        return None if there == data else there
    return None


def swap(store: ObjectStore, key: str, data: bytes, etag: str | None) -> bool:
    """Replace the object that has this ETag, None: that is not there yet; False where another writer was first, or the
    answer to the first try was lost: read again, then."""
    try:
        if etag is None:
            store.put_if_absent(key, data)
        else:
            store.compare_and_swap(key, data, etag)
    except (Conflict, MissingObject):
        return False
    return True


def sha256(data: bytes) -> str:
    """SHA-256 in hex, as records write it."""
    return hashlib.sha256(data).hexdigest()


def get_checked(store: ObjectStore, key: str, digest: str) -> bytes:
    """Read an object whose hash a record names. Raises: MissingObject, CorruptObject."""
    data = store.get(key).data
    seen = sha256(data)
    if seen != digest:
        raise CorruptObject(f"{key} has SHA-256 {seen[:16]}…, its record says {digest[:16]}…", key=key)
    return data
