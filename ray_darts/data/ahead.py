"""Runs reads in threads ahead of whoever uses them, in order and within bounds. Knows nothing of what is read."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
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
    waits for no thread.
    """
    stopped = threading.Event()
    running: deque[_Read[_Item]] = deque()
    failure: Exception | None = None
    try:
        while True:
            while failure is None and len(running) < num_threads:
                try:
                    read = next(reads, None)
                except Exception as error:  # noqa: BLE001  # raised again in its place
                    failure = error
                    break
                if read is None:
                    break
                running.append(_Read(read, most_waiting, stopped))
            if running:
                yield from running.popleft().items()
            elif failure is not None:
                raise failure
            else:
                return
    finally:
        stopped.set()


class _Read(Generic[_Item]):
    """One read in a thread of its own, whose items go through a queue; None ends them."""

    def __init__(self, read: Callable[[], Iterator[_Item]], most_waiting: int, stopped: threading.Event) -> None:
        self._read, self._stopped = read, stopped
        self._waiting: queue.Queue[_Item | None] = queue.Queue(most_waiting)
        self._done: Future[None] = Future()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            for item in self._read():
                if not self._put(item):
                    return
        except Exception as error:  # noqa: BLE001  # raised again by `items`
            self._done.set_exception(error)
        else:
            self._done.set_result(None)
        self._put(None)

    def _put(self, item: _Item | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._waiting.put(item, timeout=_CHECK_S)
            except queue.Full:
                continue
            return True
        return False

    def items(self) -> Iterator[_Item]:
        """The items, as they come, until the read has ended. Raises: what the read raised."""
        while (item := self._waiting.get()) is not None:
            yield item
        self._done.result()
