"""The simulated S3: objects in memory, and a meter around any store that counts requests and bytes, lets each take
virtual time, refuses what is above the request rate of a prefix, and ends a worker whose machine is reclaimed.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from benchmarks.simulation.clock import VirtualClock
from ray_darts.artifacts.objects import Conflict, Listed, ObjectStore, Stored
from ray_darts.errors import MissingObject

GETS, PUTS = "get", "put"
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_PAGE = 1000
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.1, 20.0
_WINDOWS_KEPT = 100_000

Answer = TypeVar("Answer")


class WorkerKilled(BaseException):
    """The machine of the worker that makes a request has been reclaimed."""


@dataclass(frozen=True)
class Behaviour:
    """A simulated S3. `puts_per_s` (deletes and lists are counted with them) and `gets_per_s` are AWS's documented
    rates of one partitioned prefix; `partitions`: into how many the bucket has divided the runs."""

    get_s: float = 0.02
    put_s: float = 0.03
    bytes_per_s: float = 100e6
    puts_per_s: int = 3500
    gets_per_s: int = 5500
    partitions: int = 1


class MemoryStore(ObjectStore):
    """Objects in dictionaries, one for each run; the contents of runs that are done with can be dropped."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._folders: dict[str, dict[str, tuple[bytes | None, str, float, int]]] = {}
        self._lock = threading.Lock()
        self._tags = 0

    @property
    def uri(self) -> str:
        return "s3://simulated"

    def get(self, key: str) -> Stored:
        found = self._folders.get(folder_of(key), {}).get(key)
        if found is None:
            raise MissingObject(f"there is no {key}", key=key)
        data, tag, at, _ = found
        assert data is not None, f"{key} was dropped by the simulation"
        return Stored(data, tag, max(0.0, self._clock.now - at))

    def exists(self, key: str) -> bool:
        return key in self._folders.get(folder_of(key), {})

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self._put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        with self._lock:
            if self.exists(key):
                raise Conflict(f"{key} exists already", key=key)
            self._put(key, data)

    def compare_and_swap(self, key: str, data: bytes, etag: str) -> None:
        with self._lock:
            if self.get(key).etag != etag:
                raise Conflict(f"{key} has changed", key=key)
            self._put(key, data)

    def delete(self, key: str) -> None:
        with self._lock:
            self._folders.get(folder_of(key), {}).pop(key, None)

    def list_objects(self, prefix: str) -> Iterator[Listed]:
        found = [
            Listed(key, size, max(0.0, self._clock.now - at))
            for folder, objects in list(self._folders.items())
            if folder.startswith(prefix) or prefix.startswith(folder)
            for key, (_, _, at, size) in list(objects.items())
            if key.startswith(prefix)
        ]
        return iter(sorted(found))

    def list_folders(self, prefix: str) -> list[str]:
        names = set()
        for folder, objects in self._folders.items():
            if folder.startswith(prefix) and len(folder) > len(prefix):
                if objects:
                    names.add(folder.removeprefix(prefix).partition("/")[0])
            elif prefix.startswith(folder):
                rest = [key.removeprefix(prefix) for key in objects if key.startswith(prefix)]
                names.update(name.partition("/")[0] for name in rest if "/" in name)
        return sorted(names)

    def server_time(self) -> datetime:
        return _EPOCH + timedelta(seconds=self._clock.now)

    def drop(self, folder: str, kept: set[str]) -> None:
        """Free the contents of a folder but those of `kept`; their names and sizes stay."""
        objects = self._folders.get(folder, {})
        for key, (_, tag, at, size) in objects.items():
            if key not in kept:
                objects[key] = (None, tag, at, size)

    def _put(self, key: str, data: bytes) -> None:
        self._tags += 1
        self._folders.setdefault(folder_of(key), {})[key] = (data, str(self._tags), self._clock.now, len(data))


class Metered(ObjectStore):
    """Counts what passes to `inner`. `requests`: {(who, kind): number}; `put_bytes`: {kind of object: bytes}."""

    def __init__(self, inner: ObjectStore, clock: VirtualClock, behaviour: Behaviour) -> None:
        self.inner, self._clock, self._behaviour = inner, clock, behaviour
        self.who = "driver"
        self.requests: Counter[tuple[str, str]] = Counter()
        self.put_bytes: Counter[str] = Counter()
        self.kept_bytes: Counter[str] = Counter()
        self.throttled = 0
        self.busiest: Counter[str] = Counter()
        self._sizes: dict[str, dict[str, int]] = {}
        self._windows: Counter[tuple[str, int, int]] = Counter()
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        return self.inner.uri

    def get(self, key: str) -> Stored:
        return self._ask("get", GETS, key, lambda: self.inner.get(key), lambda stored: len(stored.data))

    def exists(self, key: str) -> bool:
        return self._ask("head", GETS, key, lambda: self.inner.exists(key))

    def put(self, key: str, data: bytes) -> None:
        self._put("put", key, data, lambda: self.inner.put(key, data))

    def put_if_absent(self, key: str, data: bytes) -> None:
        self._put("put if absent", key, data, lambda: self.inner.put_if_absent(key, data))

    def compare_and_swap(self, key: str, data: bytes, etag: str) -> None:
        self._put("compare and swap", key, data, lambda: self.inner.compare_and_swap(key, data, etag))

    def delete(self, key: str) -> None:
        def delete() -> None:
            self.inner.delete(key)
            self.kept_bytes[kind_of(key)] -= self._sizes.get(folder_of(key), {}).pop(key, 0)

        self._ask("delete", PUTS, key, delete)

    def list_objects(self, prefix: str) -> Iterator[Listed]:
        found = self._ask("list", GETS, prefix, lambda: list(self.inner.list_objects(prefix)))
        for _ in range(len(found) // _PAGE):
            self._ask("list", GETS, prefix, lambda: None)
        return iter(found)

    def list_folders(self, prefix: str) -> list[str]:
        found = self._ask("list", GETS, prefix, lambda: self.inner.list_folders(prefix))
        for _ in range(len(found) // _PAGE):
            self._ask("list", GETS, prefix, lambda: None)
        return found

    def server_time(self) -> datetime:
        return self._ask("list", GETS, "", self.inner.server_time)

    def drop(self, folder: str, kept: set[str]) -> None:
        """As MemoryStore.drop, where that is the inner store."""
        if isinstance(self.inner, MemoryStore):
            self.inner.drop(folder, kept)
            self._sizes.pop(folder, None)

    def _put(self, kind: str, key: str, data: bytes, put: Callable[[], None]) -> None:
        def counted() -> None:
            put()
            sizes = self._sizes.setdefault(folder_of(key), {})
            self.put_bytes[kind_of(key)] += len(data)
            self.kept_bytes[kind_of(key)] += len(data) - sizes.get(key, 0)
            sizes[key] = len(data)

        self._ask(kind, PUTS, key, counted, lambda _: len(data))

    def _ask(
        self,
        kind: str,
        rate: str,
        key: str,
        act: Callable[[], Answer],
        size: Callable[[Answer], int] = lambda _: 0,
    ) -> Answer:
        """Make a request. Before its machine's end a worker's request is made; at its end the answer is lost."""
        with self._lock:
            self._wait_for_rate(rate, key)
            self.requests[self.who, kind] += 1
        self._end_if_reclaimed()
        latency = self._behaviour.get_s if rate == GETS else self._behaviour.put_s
        try:
            answer = act()
        finally:
            self._clock.spend(latency)
        self._clock.spend(size(answer) / self._behaviour.bytes_per_s)
        self._end_if_reclaimed()
        return answer

    def _end_if_reclaimed(self) -> None:
        if self._clock.deadline is not None and self._clock.now >= self._clock.deadline:
            raise WorkerKilled

    def _wait_for_rate(self, rate: str, key: str) -> None:
        """Send a request again, later each time, until the prefix has room for it."""
        limit = self._behaviour.gets_per_s if rate == GETS else self._behaviour.puts_per_s
        partition = zlib.crc32(folder_of(key).encode()) % self._behaviour.partitions
        attempt = 0
        while self._windows[rate, partition, int(self._clock.now)] >= limit:
            self.throttled += 1
            self._clock.spend(min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2**attempt))
            attempt += 1
        window = rate, partition, int(self._clock.now)
        self._windows[window] += 1
        self.busiest[rate] = max(self.busiest[rate], self._windows[window])
        if len(self._windows) > _WINDOWS_KEPT:
            recent = {window: count for window, count in self._windows.items() if window[2] >= self._clock.now - 60}
            self._windows = Counter(recent)


def folder_of(key: str) -> str:
    """The folder of the run that a key belongs to; empty for a key of no run."""
    before, runs, after = key.partition("/runs/")
    name, slash, _ = after.partition("/")
    return f"{before}{runs}{name}/" if slash else ""


def kind_of(key: str) -> str:
    """What lies under a key: checkpoints, parts, log, sessions, or the name of a document."""
    for kind in ("checkpoints", "parts", "log", "sessions"):
        if f"/{kind}/" in key:
            return kind
    return key.rpartition("/")[2]
