"""Calls a function for many things at a time, such as a request to a store: in a bounded number of threads, with a
bounded number of results ahead.

The threads are daemons, unlike those of concurrent.futures, which are joined when the process ends: a request that is
never answered must not keep a command from ending. Knows no store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

THREADS = 8
"""Calls at a time where nothing else is said."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _Answer(Generic[_Result]):
    """What one call returned or raised, once `ready` is set."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.results: list[_Result] = []
        self.error: BaseException | None = None

    def wait(self) -> _Result:
        self.ready.wait()
        if self.error is not None:
            raise self.error
        return self.results[0]


def do_concurrently(call: Callable[[_Item], object], items: Iterable[_Item], threads: int = THREADS) -> None:
    """`call_concurrently` for what the calls do, not for what they return."""
    for _ in call_concurrently(call, items, threads):
        pass


def call_concurrently(
    call: Callable[[_Item], _Result], items: Iterable[_Item], threads: int = THREADS
) -> Iterator[_Result]:
    """Yield `call(item)` of each item, in their order; `threads` calls at a time, and at most twice as many results
    that were not taken yet. A single item, and with one thread all, are done in the calling thread.

    Raises: the error of the first item, in their order, whose call raised; items after it may not be done.
    """
    waiting = list(items)
    if len(waiting) < 2 or threads == 1:
        yield from map(call, waiting)
        return
    tasks: SimpleQueue[tuple[_Item, _Answer[_Result]] | None] = SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while (task := tasks.get()) is not None and not stopped.is_set():
            item, answer = task
            try:
                answer.results.append(call(item))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
                answer.error = error
            answer.ready.set()

    num_threads = min(threads, len(waiting))
    for number in range(num_threads):
        threading.Thread(target=work, daemon=True, name=f"reader {number}").start()
    answers: list[_Answer[_Result]] = []
    try:
        for position in range(len(waiting)):
            while len(answers) < min(len(waiting), position + 2 * threads):
                answers.append(_Answer())
                tasks.put((waiting[len(answers) - 1], answers[-1]))
            yield answers[position].wait()
            answers[position].results.clear()
    finally:
        stopped.set()
        for _ in range(num_threads):
            tasks.put(None)
