"""Whether a store can hold runs: each promise that the protocol needs, tried on the user's own bucket or folder.

Puts a probe object under `_probe/` and removes it. Knows no experiment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from ray_darts.artifacts.keys import probe_key
from ray_darts.artifacts.objects import Conflict, ObjectStore
from ray_darts.errors import ConfigError, MissingObject, RayDartsError, StoreDenied, StoreError, StoreUnavailable

MAX_CLOCK_SKEW_S = 300.0


@dataclass(frozen=True)
class Check:
    """One promise: whether it holds, what was seen, and what a store without it would cost.

    `needed`: no run may be written to a store without it. `error`: what the store answered instead, if it was that.
    """

    name: str
    ok: bool
    needed: bool
    detail: str
    cost: str
    error: RayDartsError | None = None


def probe_store(store: ObjectStore) -> list[Check]:
    """Try every promise, also after one is broken; the probe is removed. Raises nothing of the package's errors."""
    prober = _Prober(store, probe_key(uuid4().hex))
    return prober.checks()


def check_store(store: ObjectStore) -> None:
    """The preflight of a worker's node.

    Raises: StoreUnavailable in an outage and StoreDenied without a right, which say nothing against the store;
    ConfigError naming what is missing (an ability of a folder's file system, a bucket); StoreError naming each promise
    that is needed and does not hold.
    """
    broken = [check for check in probe_store(store) if check.needed and not check.ok]
    for check in broken:
        if isinstance(check.error, StoreUnavailable | StoreDenied | ConfigError):
            raise check.error
    if broken:
        lines = "\n".join(f"  {check.name}: {check.detail}. Without it {check.cost}" for check in broken)
        raise StoreError(f"{store.uri} cannot hold runs:\n{lines}", checks=[check.name for check in broken])


class _Broken(Exception):
    """A promise that does not hold, and what was seen."""


class _Prober:
    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store = store
        self._key = key

    def checks(self) -> list[Check]:
        tries: list[tuple[str, bool, Callable[[], str], str]] = [
            ("create", True, self._create, "nothing can be written"),
            ("conditional create", True, self._create_twice, "two writers would overwrite each other's records"),
            ("read after write", True, self._read_back, "a writer could not tell its own record from another's"),
            ("compare and swap", True, self._swap, "best.json could get worse"),
            ("missing keys", True, self._missing, "the end of a run's log could not be found"),
            ("listing", False, self._listing, "verify, gc and status of all runs do not work; a search does"),
            ("clock", False, self._clock, "ages in status and gc are wrong; requests are refused beyond 15 minutes"),
            ("delete", False, self._delete, "old checkpoints stay until somebody else removes them"),
        ]
        return [self._check(*each) for each in tries]

    def _check(self, name: str, needed: bool, attempt: Callable[[], str], cost: str) -> Check:
        try:
            return Check(name, True, needed, attempt(), cost)
        except _Broken as error:
            return Check(name, False, needed, str(error), cost)
        except RayDartsError as error:
            return Check(name, False, needed, str(error), cost, error)

    def _create(self) -> str:
        self._store.put_if_absent(self._key, b"one")
        return "a new object is put whole, with its SHA-256"

    def _create_twice(self) -> str:
        try:
            self._store.put_if_absent(self._key, b"two")
        except Conflict:
            return "a second put of the same key is refused"
        raise _Broken("a second put of the same key was accepted: If-None-Match is ignored")

    def _read_back(self) -> str:
        seen = self._store.get(self._key).data
        if seen != b"one":
            raise _Broken(f"{seen!r} was read back instead of b'one'")
        return "what was put is read back at once"

    def _swap(self) -> str:
        first = self._store.get(self._key).etag
        self._store.compare_and_swap(self._key, b"three", first)
        try:
            self._store.compare_and_swap(self._key, b"four", first)
        except Conflict:
            return "a swap by an old tag is refused"
        raise _Broken("a swap by an old tag was accepted: If-Match is ignored")

    def _missing(self) -> str:
        try:
            self._store.get(f"{self._key}.absent")
        except MissingObject:
            return "a missing key is 404"
        except StoreDenied as error:
            raise _Broken(f"a missing key is 403: grant s3:ListBucket on the bucket ({error})") from error
        raise _Broken("a key that was never put is there")

    def _listing(self) -> str:
        found = [entry.key for entry in self._store.list_objects("_probe/")]
        if self._key not in found:
            raise _Broken("the probe is not listed")
        return "a new object is listed at once"

    def _clock(self) -> str:
        before = time.time()
        skew_s = abs(self._store.server_time().timestamp() - before)
        if skew_s > MAX_CLOCK_SKEW_S:
            raise _Broken(f"this machine's clock and the store's are {skew_s:.0f} s apart")
        return f"this machine's clock and the store's are {skew_s:.0f} s apart"

    def _delete(self) -> str:
        self._store.delete(self._key)
        if self._store.exists(self._key):
            raise _Broken("the probe is still there after it was deleted")
        return "an object is deleted"
