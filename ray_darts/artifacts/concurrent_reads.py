"""Reads many things at a time from a store, in threads: a bounded number of them, and a bounded number read ahead.

The threads are daemons, unlike those of concurrent.futures, which are joined when the process ends: a request that is
never answered must not keep a command from ending. Knows no store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

READERS = 8
"""Requests at a time where nothing else is said."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _Answer(Generic[_Result]):
    """What one call of `read` returned or raised, once `ready` is set."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.results: list[_Result] = []
        self.error: BaseException | None = None

    def wait(self) -> _Result:
        self.ready.wait()
        if self.error is not None:
            raise self.error
        return self.results[0]


def read_concurrently(
    read: Callable[[_Item], _Result], items: Iterable[_Item], readers: int = READERS
) -> Iterator[_Result]:
    """Yield `read(item)` of each item, in their order; `readers` calls at a time, and at most twice as many results
    that were not taken yet. A single item is read in the calling thread.

    Raises: the error of the first item, in their order, whose `read` raised; items after it may not be read.
    """
    waiting = list(items)
    if len(waiting) < 2:
        yield from map(read, waiting)
        return
    tasks: SimpleQueue[tuple[_Item, _Answer[_Result]] | None] = SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while (task := tasks.get()) is not None and not stopped.is_set():
            item, answer = task
            try:
                answer.results.append(read(item))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
                answer.error = error
            answer.ready.set()

    num_threads = min(readers, len(waiting))
    for number in range(num_threads):
        threading.Thread(target=work, daemon=True, name=f"reader {number}").start()
    answers: list[_Answer[_Result]] = []
    try:
        for position in range(len(waiting)):
            while len(answers) < min(len(waiting), position + 2 * readers):
                answers.append(_Answer())
                tasks.put((waiting[len(answers) - 1], answers[-1]))
            yield answers[position].wait()
            answers[position].results.clear()
    finally:
        stopped.set()
        for _ in range(num_threads):
            tasks.put(None)
