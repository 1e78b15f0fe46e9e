"""Whether a store can hold runs: each promise that the protocol needs, tried on the user's own bucket or folder.

Puts a probe object under `_probe/` and removes it, unless putting it failed. Knows no experiment.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import uuid4

from ray_darts.artifacts.keys import probe_key
from ray_darts.artifacts.objects import Conflict, ObjectStore, create
from ray_darts.errors import ConfigError, MissingObject, RayDartsError, StoreDenied, StoreError, StoreUnavailable

MAX_CLOCK_SKEW_S = 300.0
_DELETE = "delete"


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
    """Try every promise, also after one is broken. Raises nothing of the package's errors.

    What could only fail because an earlier request failed is not tried, so each check that fails is a cause.
    """
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


class _Promise(NamedTuple):
    """One promise and how it is tried; `requires` names the one whose request must have been answered before."""

    name: str
    needed: bool
    attempt: Callable[[], str | None]
    cost: str
    requires: str = ""


def _prevents(check: Check, promise: _Promise) -> bool:
    """Whether a failed request says already that this promise cannot be tried: the store is not reached at all, or
    the object or the answer that it needs is not there.
    """
    error = check.error
    if error is None:
        return False
    is_unreachable = isinstance(error, StoreUnavailable | ConfigError)
    is_unknown_here = isinstance(error, StoreDenied) and error.facts.get("right") is None
    return is_unreachable or is_unknown_here or check.name == promise.requires


def _with_untried(check: Check, names: list[str]) -> Check:
    return replace(check, detail=f"{check.detail} (not tried because of this: {', '.join(names)})") if names else check


class _Prober:
    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store = store
        self._key = key
        self._hides_missing = False

    def checks(self) -> list[Check]:
        """Try each promise in turn, but none that could only fail because an earlier request has failed."""
        checks: list[Check] = []
        causes: dict[str, str] = {}  # of each promise that is not tried, the check that failed
        for promise in self._promises():
            cause = next((check.name for check in checks if _prevents(check, promise)), causes.get(promise.requires))
            if cause is not None:
                causes[promise.name] = cause
                continue
            check = self._check(promise)
            if check is not None:
                checks.append(check)
        if _DELETE in causes and checks[0].ok:
            with contextlib.suppress(RayDartsError):
                self._store.delete(self._key)
        return [_with_untried(check, [name for name in causes if causes[name] == check.name]) for check in checks]

    def _promises(self) -> list[_Promise]:
        return [
            _Promise("create", True, self._create, "nothing can be written"),
            _Promise(
                "conditional create",
                True,
                self._create_twice,
                "two writers would overwrite each other's records",
                "create",
            ),
            _Promise(
                "read after write",
                True,
                self._read_back,
                "a writer could not tell its own record from another's",
                "create",
            ),
            _Promise("compare and swap", True, self._swap, "best.json could get worse", "read after write"),
            _Promise(
                "missing keys", True, self._missing, "the end of a run's log could not be found", "read after write"
            ),
            _Promise(
                "checksums",
                False,
                self._checksums,
                "bytes that are damaged on their way are found by verify only",
                "create",
            ),
            _Promise(
                "listing",
                False,
                self._listing,
                "verify, gc and status of all runs do not work; a search does",
                "create",
            ),
            _Promise(
                "clock",
                False,
                self._clock,
                "ages in status and gc are wrong; requests are refused beyond 15 minutes",
                "listing",
            ),
            _Promise(_DELETE, False, self._delete, "old checkpoints stay until somebody else removes them", "create"),
        ]

    def _check(self, promise: _Promise) -> Check | None:
        """What was seen of a promise; None where the store does not make it."""
        name, needed, cost = promise.name, promise.needed, promise.cost
        try:
            seen = promise.attempt()
            return None if seen is None else Check(name, True, needed, seen, cost)
        except _Broken as error:
            return Check(name, False, needed, str(error), cost)
        except RayDartsError as error:
            return Check(name, False, needed, str(error), cost, error)

    def _create(self) -> str:
        if create(self._store, self._key, b"one") is not None:
            raise _Broken("a key that was never put is there")
        return "a new object is put"

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
        try:
            self._store.compare_and_swap(self._key, b"three", first)
        except Conflict:
            if self._store.get(self._key).data != b"three":  # it is when the answer to the first try was lost
                raise _Broken(
                    "a swap by the tag that the store has just sent is refused: If-Match does not work"
                ) from None
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
            if error.facts.get("right") is None:
                raise
            self._hides_missing = True
            raise _Broken(f"a missing key is 403: grant s3:ListBucket on the bucket ({error})") from error
        raise _Broken("a key that was never put is there")

    def _checksums(self) -> str | None:
        refused = self._store.refuses_damage(self._key)
        if refused is None:
            return None
        if not refused:
            raise _Broken("an object with another object's SHA-256 was accepted: the server does not compare it")
        return "an object with another object's SHA-256 is refused"

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
        if self._is_there():
            raise _Broken("the probe is still there after it was deleted")
        return "an object is deleted"

    def _is_there(self) -> bool:
        try:
            return self._store.exists(self._key)
        except StoreDenied:
            if not self._hides_missing:
                raise
            return False
