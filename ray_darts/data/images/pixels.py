"""Where the pixels of a data set are kept: the interface, and pixels in one array, in memory or in a mapped file.

Knows pixels and their numbers, neither pictures nor labels.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.data.images.tally import picture_hash

_ANNOUNCED = 2
"""Requests: those of one step of a search."""

RowsOf = Callable[[int], NDArray[np.int64]]
"""rows_of(position): the rows of one request of a series; a pure function."""


class PixelSeries(Protocol):
    """The pixels of a series of requests, each known before it is made."""

    def at(self, position: int) -> Tensor:
        """uint8 [n, H, W, C] of the rows at `position`; fastest where positions follow one another."""
        ...


class Pixels(Protocol):
    """uint8 [H, W, C] of each of the used samples, by row."""

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        """uint8 [n, H, W, C] of these rows, in their order."""
        ...

    def series(self, rows_of: RowsOf, stop: int) -> PixelSeries:
        """The requests 0 to `stop` - 1."""
        ...

    def hashes(self) -> NDArray[np.uint64]:
        """64 bits of each row that tell pictures apart."""
        ...


class ArrayPixels:
    """Pixels in one array [N, H, W, C], which several workers may share where it is a mapped file."""

    def __init__(self, images_NHWC: NDArray[np.uint8]) -> None:
        self.images_NHWC = torch.from_numpy(images_NHWC)

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        return self.images_NHWC.index_select(0, torch.from_numpy(rows))

    def series(self, rows_of: RowsOf, stop: int) -> PixelSeries:
        return _Taken(self, rows_of)

    def hashes(self) -> NDArray[np.uint64]:
        return np.array([picture_hash(picture) for picture in self.images_NHWC.numpy()], np.uint64)


class MappedPixels(ArrayPixels):
    """Pixels in a file. What the next requests take is read from disk while the present one is used."""

    def __init__(self, file: Path, shape: tuple[int, int, int, int], keep: object) -> None:
        # copy on write, for PyTorch knows no array that cannot be written
        images_NHWC = np.memmap(file, np.uint8, mode="c", shape=shape)
        super().__init__(images_NHWC)
        self._map: mmap.mmap = images_NHWC._mmap  # type: ignore[attr-defined]  # not in NumPy's types
        self._map.madvise(mmap.MADV_RANDOM)
        self._picture_bytes = int(np.prod(shape[1:]))
        self._keep = keep  # the lock of the cache

    def series(self, rows_of: RowsOf, stop: int) -> PixelSeries:
        return _Announced(self, rows_of, stop)

    def announce(self, rows: NDArray[np.int64]) -> None:
        """Begin to read these rows from disk."""
        for row in rows.tolist():
            start = row * self._picture_bytes
            aligned = start - start % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, aligned, start + self._picture_bytes - aligned)


class _Taken:
    """A series over an array in memory."""

    def __init__(self, pixels: ArrayPixels, rows_of: RowsOf) -> None:
        self._pixels, self._rows_of = pixels, rows_of

    def at(self, position: int) -> Tensor:
        return self._pixels.take(self._rows_of(position))


class _Announced:
    """A series over a mapped file, of which the requests of the next step are announced."""

    def __init__(self, pixels: MappedPixels, rows_of: RowsOf, stop: int) -> None:
        self._pixels, self._rows_of, self._stop = pixels, rows_of, stop
        self._announced = -1

    def at(self, position: int) -> Tensor:
        for later in range(position + 1, min(position + 1 + _ANNOUNCED, self._stop)):
            if not position < later <= self._announced <= position + _ANNOUNCED:
                self._pixels.announce(self._rows_of(later))
        self._announced = position + _ANNOUNCED
        return self._pixels.take(self._rows_of(position))
