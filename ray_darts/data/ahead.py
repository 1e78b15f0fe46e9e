"""Runs reads in threads ahead of whoever uses them, in order and within bounds. Knows nothing of what is read."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Item = TypeVar("_Item")

_CHECK_S = 0.2


def in_turn(reads: Iterator[Callable[[], Iterator[_Item]]]) -> Iterator[_Item]:
    """All items of all `reads`, one after the other in this thread."""
    for read in reads:
        yield from read()


def read_ahead(
    reads: Iterator[Callable[[], Iterator[_Item]]], num_threads: int, most_waiting: int
) -> Generator[_Item, None, None]:
    """All items of all `reads`, in order; `num_threads` reads run at a time, each at most `most_waiting` items ahead.

    What a read raises is raised in its place, and so is what `reads` itself raises. A generator that is closed early
    ends its threads.
    """
    stopped = threading.Event()
    running: deque[tuple[_Read[_Item], Future[None]]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            while True:
                while len(running) < num_threads and (read := next(reads, None)) is not None:
                    one = _Read(read, stopped, queue.Queue(most_waiting))
                    running.append((one, pool.submit(one.run)))
                if not running:
                    return
                one, done = running.popleft()
                yield from one.items()
                done.result()
        finally:
            stopped.set()


@dataclass
class _Read(Generic[_Item]):
    """One read, whose items go through a queue; None ends them."""

    read: Callable[[], Iterator[_Item]]
    stopped: threading.Event
    waiting: queue.Queue[_Item | None] = field(repr=False)

    def run(self) -> None:
        """Put all items into the queue, unless nobody wants them any more."""
        try:
            for item in self.read():
                if not self._put(item):
                    return
        finally:
            self._put(None)

    def _put(self, item: _Item | None) -> bool:
        while not self.stopped.is_set():
            try:
                self.waiting.put(item, timeout=_CHECK_S)
            except queue.Full:
                continue
            return True
        return False

    def items(self) -> Iterator[_Item]:
        """The items, as they come, until the read has ended."""
        while (item := self.waiting.get()) is not None:
            yield item
