"""Pixels that are decoded when they are needed, by processes that work ahead of the search.

Which rows a request has is decided before, so a process that is lost costs time and changes nothing.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.data.images import decoding_process
from ray_darts.data.images.decoding_process import PictureDecoder
from ray_darts.data.images.pixels import PixelSeries, RowsOf

logger = logging.getLogger("ray_darts.data")

_MOST_LOSSES = 5
_MOST_WAITING = 0.02
"""Share of the time that a search may wait for pictures before people are warned."""
_JUDGED_AFTER_S = 30.0


class StreamedPixels:
    """Pixels of a source, decoded by `num_processes` processes, `ahead` requests before they are used."""

    def __init__(self, decoder: PictureDecoder, num_processes: int, ahead: int) -> None:
        self._decoder, self._ahead = decoder, ahead
        self._processes = _Processes(decoder, num_processes)

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self._decoder.decode(rows))

    def series(self, rows_of: RowsOf, stop: int) -> PixelSeries:
        return StreamedSeries(self._processes, rows_of, stop, self._ahead)

    def hashes(self) -> NDArray[np.uint64]:
        return self._decoder.hashes

    @property
    def process_ids(self) -> list[int]:
        """Of the decoding processes that run."""
        return self._processes.ids


class StreamedSeries:
    """A series whose next requests are decoded ahead. `waited_s` of `passed_s` seconds went by waiting for them.

    Both count once the processes are warm: from when as many requests were answered as are made ahead.
    """

    def __init__(self, processes: _Processes, rows_of: RowsOf, stop: int, ahead: int) -> None:
        self._processes, self._rows_of, self._stop, self._ahead = processes, rows_of, stop, ahead
        self._pending: deque[tuple[int, Future[NDArray[np.uint8]]]] = deque()
        self._began_s: float | None = None
        self._has_warned = False
        self._answered = 0
        self.waited_s = 0.0

    @property
    def passed_s(self) -> float:
        """Seconds since the processes are warm."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    def at(self, position: int) -> Tensor:
        asked_s = time.monotonic()
        losses = 0
        while True:
            self._submit(position)
            try:
                pixels_NHWC = self._pending[0][1].result()
                break
            except BrokenProcessPool as error:
                losses += 1
                if losses == _MOST_LOSSES:
                    raise RuntimeError(
                        f"processes that decode pictures were lost {losses} times in a row (out of memory?): lower "
                        "data.loader_processes"
                    ) from error
                logger.warning("a process that decodes pictures was lost; its requests are done again")
                self._processes.restart()
                self._pending.clear()
        self._pending.popleft()
        self._submit(position + 1)
        self._count(time.monotonic() - asked_s)
        return torch.from_numpy(pixels_NHWC)

    def _submit(self, position: int) -> None:
        """Have the requests from `position` on under way, and no others."""
        while self._pending and self._pending[0][0] != position:
            self._pending.popleft()[1].cancel()
        following = self._pending[-1][0] + 1 if self._pending else position
        try:
            for later in range(following, min(position + 1 + self._ahead, self._stop)):
                self._pending.append((later, self._processes.submit(self._rows_of(later))))
        except BrokenProcessPool:
            if not self._pending:
                failed: Future[NDArray[np.uint8]] = Future()
                failed.set_exception(BrokenProcessPool())
                self._pending.append((position, failed))

    def _count(self, waited_s: float) -> None:
        self._answered += 1
        if self._answered <= self._ahead:
            return
        if self._began_s is None:
            self._began_s = time.monotonic()
            return
        self.waited_s += waited_s
        if self._has_warned or self.passed_s < _JUDGED_AFTER_S or self.waited_s < _MOST_WAITING * self.passed_s:
            return
        self._has_warned = True
        logger.warning(
            "%.0f %% of the time is spent waiting for pictures: raise data.loader_processes, or set data.loading to "
            '"mapped"',
            100 * self.waited_s / self.passed_s,
        )


class _Processes:
    """Decoding processes, started with the first request; they end with this object, or when their parent is gone."""

    def __init__(self, decoder: PictureDecoder, count: int) -> None:
        self._decoder, self._count = decoder, count
        self._pool: ProcessPoolExecutor | None = None
        self._end: Callable[[], object] = lambda: None

    def submit(self, positions: NDArray[np.int64]) -> Future[NDArray[np.uint8]]:
        """Decode in one of the processes."""
        if self._pool is None:
            self._pool = self._start()
        return self._pool.submit(decoding_process.decode, positions)

    def restart(self) -> None:
        """Begin with new processes at the next request."""
        self._end()
        self._pool = None

    @property
    def ids(self) -> list[int]:
        """Of the processes that run."""
        return [] if self._pool is None else list(self._pool._processes)

    def _start(self) -> ProcessPoolExecutor:
        # not forked: a process of Ray has threads, and a GPU's driver does not survive a fork
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(
            self._count, mp_context=context, initializer=decoding_process.begin, initargs=(self._decoder,)
        )
        self._end = weakref.finalize(self, _shut_down, pool)
        return pool


def _shut_down(pool: ProcessPoolExecutor) -> None:
    """End the processes also in the middle of a request, which may wait for a server."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
