"""Virtual time: the events of the simulated cluster in order, and how long the event at hand has taken so far.

An event is atomic: it sees the store as it is when the event begins, and takes as long as its requests take. Real
threads may take part in an event: those of a pool of readers share their time, every other thread adds its own.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

POOLS: dict[str, int | None] = {"ThreadPoolExecutor": 8, "reader ": None}
"""How threads that share their time are named, and how many of them work at a time (`_READERS` of run_log.py and
results.py); None: as many as there are now."""


class VirtualClock:
    """`now`: seconds since the simulation began, of the event at hand, which has taken `elapsed` of them."""

    def __init__(self) -> None:
        self._began = self.elapsed = 0.0
        self._lock = threading.Lock()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.deadline: float | None = None

    @property
    def now(self) -> float:
        """The time at which the event at hand has arrived."""
        return self._began + self.elapsed

    def begin(self, at: float, deadline: float | None = None) -> None:
        """Begin an event; its actor ends at `deadline`, None: it does not."""
        self._began, self.elapsed, self.deadline = at, 0.0, deadline

    def spend(self, seconds: float) -> None:
        """Let the event at hand take longer; called from any thread that takes part."""
        at_a_time = _at_a_time(threading.current_thread().name)
        with self._lock:
            self.elapsed += seconds / at_a_time

    def schedule(self, at: float, act: Callable[[], None]) -> None:
        """Call `act` at a time; it begins at that time."""
        heapq.heappush(self._events, (at, next(self._numbers), act))

    def play(self, until: float, may_go_on: Callable[[], bool]) -> float:
        """Play the events up to `until`, or as long as they may go on; returns the time that is reached."""
        reached = self._began
        while may_go_on() and self._events and self._events[0][0] <= until:
            at, _, act = heapq.heappop(self._events)
            self.begin(at)
            act()
            reached = max(reached, at)
        return until if may_go_on() else reached


def _at_a_time(name: str) -> int:
    """How many threads like the one of this name work at the same time."""
    for prefix, size in POOLS.items():
        if name.startswith(prefix):
            return size or sum(thread.name.startswith(prefix) for thread in threading.enumerate())
    return 1
