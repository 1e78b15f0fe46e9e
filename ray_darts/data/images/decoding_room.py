"""Memory in which pictures are decoded by several threads, within a limit."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.images.pictures import (
    NeverSkipped,
    Picture,
    PictureShape,
    decode_picture,
    decoding_bytes,
    open_picture,
)
from ray_darts.data.memory import gigabytes


class NoRoom(NeverSkipped):
    """A picture that this machine has no memory to decode; another one may have it."""


class DecodingRoom:
    """Memory that pictures are decoded in, by several threads; `beside`: what else takes memory, for messages."""

    def __init__(self, limit_bytes: int, beside: str = "") -> None:
        self._limit, self._beside = limit_bytes, beside
        self._changed = Condition()
        self._used = 0
        self._num_cores = os.cpu_count() or 1
        self._largest: list[int] = []

    @contextmanager
    def taken(self, num_bytes: int, name: str, size: tuple[int, int]) -> Iterator[None]:
        """Wait until `num_bytes` are free, and take them. Raises: NoRoom when they never will be."""
        if num_bytes > self._limit:
            raise NoRoom(
                f"decoding {name} of {size[0]}x{size[1]} pixels needs {gigabytes(num_bytes)} GB{self._beside}, "
                f"{gigabytes(self._limit)} GB are left: make it smaller",
                name=name,
            )
        with self._changed:
            self._changed.wait_for(lambda: self._used + num_bytes <= self._limit)
            self._used += num_bytes
            heapq.heappush(self._largest, num_bytes)
            if len(self._largest) > self._num_cores:
                heapq.heappop(self._largest)
        try:
            yield
        finally:
            with self._changed:
                self._used -= num_bytes
                self._changed.notify_all()

    def peak_bytes(self, num_threads: int) -> int:
        """Most bytes that so many threads take at once."""
        return min(sum(heapq.nlargest(num_threads, self._largest)), self._limit)

    def decode(self, picture: Picture, shape: PictureShape) -> tuple[NDArray[np.uint8], bool]:
        """As `decode_picture`, once there is room. Raises: DataError."""
        image = open_picture(picture)
        with self.taken(decoding_bytes(image, shape), picture.name, image.size):
            return decode_picture(image, picture.name, shape)
