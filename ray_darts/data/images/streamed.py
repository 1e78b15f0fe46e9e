"""Pixels that are decoded when they are needed, by processes that work ahead of the search.

Which rows a request has is decided before, so a process that is lost costs time and changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.data.images.decoding_pool import Decoded, DecodingPool, ProcessLost
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
        self._pool = DecodingPool(decoder, num_processes)

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self._decoder.decode(rows))

    def series(self, rows_of: RowsOf, stop: int) -> PixelSeries:
        return StreamedSeries(self._pool, rows_of, stop, self._ahead)

    def hashes(self) -> NDArray[np.uint64]:
        return self._decoder.hashes

    @property
    def process_ids(self) -> list[int]:
        """Of the decoding processes that run."""
        return self._pool.ids


class StreamedSeries:
    """A series whose next requests are decoded ahead. `waited_s` of `passed_s` seconds went by waiting for them.

    Both count once the processes are warm: from when as many requests were answered as are made ahead.
    """

    def __init__(self, pool: DecodingPool, rows_of: RowsOf, stop: int, ahead: int) -> None:
        self._pool, self._rows_of, self._stop, self._ahead = pool, rows_of, stop, ahead
        self._pending: deque[tuple[int, Decoded]] = deque()
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
        self._submit(position)
        losses = 0
        while True:
            try:
                pixels_NHWC = self._pending[0][1].result()
                break
            except ProcessLost as error:
                losses += 1
                if losses == _MOST_LOSSES:
                    raise RuntimeError(
                        f"processes that decode pictures were lost {losses} times in a row (out of memory?): lower "
                        "data.loader_processes"
                    ) from error
                self._submit_again()
        self._pending.popleft()
        self._submit(position + 1)
        self._count(time.monotonic() - asked_s)
        return torch.from_numpy(pixels_NHWC)

    def _submit(self, position: int) -> None:
        """Have the requests from `position` on under way, and no others."""
        while self._pending and self._pending[0][0] != position:
            self._pending.popleft()
        following = self._pending[-1][0] + 1 if self._pending else position
        for later in range(following, min(position + 1 + self._ahead, self._stop)):
            self._pending.append((later, self._pool.submit(self._rows_of(later))))

    def _submit_again(self) -> None:
        """Those that were lost."""
        for place, (position, future) in enumerate(self._pending):
            if future.done() and isinstance(future.exception(), ProcessLost):
                self._pending[place] = position, self._pool.submit(self._rows_of(position))

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
