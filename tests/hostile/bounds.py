"""Bounds of time and memory for what runs in this process."""

from __future__ import annotations

import gc
import signal
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bounded(seconds: float, num_bytes: int = 200_000_000) -> Iterator[None]:
    """Raise TimeoutError after `seconds` of this process's own time, which other work on the machine does not lengthen,
    and AssertionError above `num_bytes` of memory that Python knows of. What waits is ended by pytest's own timeout."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGPROF, too_long)
    gc.freeze()  # what earlier tests of this process have left is not collected at this one's expense
    signal.setitimer(signal.ITIMER_PROF, seconds)
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < num_bytes
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        gc.unfreeze()
