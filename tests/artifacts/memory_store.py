"""A store in memory that fails on demand: the model against which the protocol is tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Literal

from ray_darts.artifacts.objects import Conflict, Listed, ObjectStore, Stored
from ray_darts.errors import MissingObject, StoreUnavailable

Fault = Literal["refused", "lost", "retried", "killed_before", "killed_after", "overtaken", "swept"]
FAULTS: tuple[Fault, ...] = ("refused", "lost", "retried", "killed_before", "killed_after", "overtaken", "swept")


class Killed(BaseException):
    """The process ended here. Nothing in the package may catch it."""


class Scheduled:
    """Faults of writes. `schedule[i]` is the fault of the i-th write from now on.

    `refused`: not carried out, unavailable; `lost`: carried out, unavailable; `retried`: carried out, its answer lost,
    and carried out again, as a client does that retries; `killed_*`: the process ends before or after it;
    `overtaken`, `swept`: somebody else's doing, `overtake()` or `sweep()`, comes first. After `sweep_after` further
    reads `sweep()` comes before the next one.
    """

    def __init__(self) -> None:
        self.schedule: list[Fault | None] = []
        self.overtake: Callable[[], None] = lambda: None
        self.sweep: Callable[[], None] = lambda: None
        self.sweep_after: int | None = None
        self.log: list[str] = []

    def meanwhile(self, act: Callable[[], None]) -> None:
        """Let somebody else act, without faults."""
        rest, self.schedule = self.schedule, []
        try:
            act()
        finally:
            self.schedule = rest

    def read(self) -> None:
        """Let another collector act before this read, if it is its turn."""
        if self.sweep_after is not None:
            self.sweep_after = self.sweep_after - 1 if self.sweep_after else None
            if self.sweep_after is None:
                self.meanwhile(self.sweep)

    def write(self, verb: str, key: str, act: Callable[[], object]) -> None:
        """Carry out a write as the schedule says."""
        self.log.append(f"{verb} {key}")
        fault = self.schedule.pop(0) if self.schedule else None
        if fault == "refused":
            raise StoreUnavailable(f"{key}: no answer", key=key)
        if fault == "killed_before":
            raise Killed
        if fault in ("overtaken", "swept"):
            self.meanwhile(self.overtake if fault == "overtaken" else self.sweep)
        act()
        if fault == "lost":
            raise StoreUnavailable(f"{key}: no answer", key=key)
        if fault == "killed_after":
            raise Killed
        if fault == "retried":
            act()


class MemoryStore(Scheduled, ObjectStore):
    """Objects in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self._versions: dict[str, int] = {}
        self._clock = 0

    @property
    def uri(self) -> str:
        return "memory"

    def get(self, key: str) -> Stored:
        self.log.append(f"GET {key}")
        self.read()
        if key not in self.objects:
            raise MissingObject(f"there is no {key}", key=key)
        return Stored(self.objects[key], str(self._versions[key]), 0.0)

    def exists(self, key: str) -> bool:
        self.log.append(f"HEAD {key}")
        return key in self.objects

    def put(self, key: str, data: bytes) -> None:
        self.write("PUT", key, lambda: self._set(key, data))

    def put_if_absent(self, key: str, data: bytes) -> None:
        def act() -> None:
            if key in self.objects:
                raise Conflict(f"{key} exists", key=key)
            self._set(key, data)

        self.write("CREATE", key, act)

    def compare_and_swap(self, key: str, data: bytes, etag: str) -> None:
        def act() -> None:
            if key not in self.objects:
                raise MissingObject(f"there is no {key}", key=key)
            if str(self._versions[key]) != etag:
                raise Conflict(f"{key} has changed", key=key)
            self._set(key, data)

        self.write("SWAP", key, act)

    def delete(self, key: str) -> None:
        self.write("DELETE", key, lambda: self.objects.pop(key, None))

    def list_objects(self, prefix: str) -> Iterator[Listed]:
        self.log.append(f"LIST {prefix}")
        self.read()
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield Listed(key, len(self.objects[key]), 0.0)

    def list_folders(self, prefix: str) -> list[str]:
        self.log.append(f"LIST {prefix}")
        below = (key.removeprefix(prefix) for key in self.objects if key.startswith(prefix))
        return sorted({name.partition("/")[0] for name in below if "/" in name})

    def server_time(self) -> datetime:
        return datetime.now(UTC)

    def _set(self, key: str, data: bytes) -> None:
        self._clock += 1
        self.objects[key] = data
        self._versions[key] = self._clock
