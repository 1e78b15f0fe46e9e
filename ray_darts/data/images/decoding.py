"""Decodes all pictures of a data set on all cores into one array, within a limit of memory; names bad ones together.

Knows neither the sources of pictures nor how one is decoded.
"""

from __future__ import annotations

import heapq
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, pairwise
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
from ray_darts.data.summary import MOST_PROBLEMS, raise_together
from ray_darts.errors import DataError

_DECODED_AT_ONCE = 512
_MOVED_AT_ONCE = 256


@dataclass(frozen=True)
class DecodedPictures:
    """All pictures [count, size, size, channels], and what decoding found.

    `skipped`: {position among those asked for: what is wrong}; the array is without them. `num_flat`: pictures that
    are one colour, the first of them `first_flat`; `num_flat_transparent`: those of them that had transparent
    pixels. `peak_bytes`: of decoding beside the array, at most.
    """

    images_NHWC: NDArray[np.uint8]
    peak_bytes: int
    num_flat: int
    num_flat_transparent: int
    first_flat: str
    skipped: Mapping[int, DataError]

    @property
    def all_flat(self) -> bool:
        """Whether no picture has two colours."""
        return self.num_flat == len(self.images_NHWC)

    def flat_text(self, background: str) -> str:
        """How many pictures are one flat colour, and what to do."""
        count = len(self.images_NHWC)
        text = f"{self.num_flat} of {count} pictures are one flat colour once decoded, first {self.first_flat}"
        if self.num_flat_transparent:
            return (
                f"{text}; {self.num_flat_transparent} of them have transparent pixels, which take the colour "
                f"data.background = {background!r}: set another one"
            )
        return f"{text}; look at these files, a search learns nothing from them"


class NoRoom(NeverSkipped):
    """A picture that this machine has no memory to decode; another one may have it."""


class DecodingRoom:
    """Memory that pictures are decoded in, by several threads; `beside`: what else takes memory, for messages."""

    def __init__(self, limit_bytes: int, beside: str = "") -> None:
        self._limit, self._beside = limit_bytes, beside
        self._changed = Condition()
        self._used = 0
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
            if len(self._largest) > (os.cpu_count() or 1):
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


def decode_all(
    pictures: Iterator[Picture], count: int, shape: PictureShape, limit_bytes: int, most_skipped: int = 0
) -> DecodedPictures:
    """Decode `count` pictures in order; no more at a time than fit `limit_bytes` beside the array.

    At most `most_skipped` that cannot be decoded are left out.
    Raises: DataError naming up to ten pictures that are missing, corrupt, too large or of another size.
    """
    images_NHWC = np.empty((count, shape.size, shape.size, shape.channels), np.uint8)
    beside = f" beside the data set's {gigabytes(images_NHWC.nbytes)} GB"
    work = _Decoding(shape, images_NHWC, DecodingRoom(limit_bytes, beside))
    problems: dict[int, DataError] = {}
    broken: list[DataError] = []
    position = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while len(problems) < most_skipped + MOST_PROBLEMS:
            try:
                group = list(islice(pictures, _DECODED_AT_ONCE))
            except DataError as error:
                broken.append(error)
                break
            if not group:
                break
            positions = range(position, position + len(group))
            results = pool.map(work.decode, positions, group)
            problems |= {place: found for place, found in zip(positions, results, strict=True) if found is not None}
            position += len(group)
    broken += [problem for problem in problems.values() if isinstance(problem, NeverSkipped)]
    if broken or len(problems) > most_skipped:
        others = [problem for problem in problems.values() if not isinstance(problem, NeverSkipped)]
        more = f" (data.max_skipped = {most_skipped})" if most_skipped else ""
        raise_together([*broken, *others], f"pictures cannot be used{more}")
    assert position == count, f"{position} pictures were read, {count} were expected"
    return work.result(min(os.cpu_count() or 1, count), problems)


@dataclass
class _Decoding:
    """What the threads share: the array that they fill, the memory in use, and what they found."""

    shape: PictureShape
    images_NHWC: NDArray[np.uint8]
    room: DecodingRoom
    flat: dict[int, tuple[str, bool]] = field(default_factory=dict)

    def decode(self, position: int, picture: Picture) -> DataError | None:
        """Decode one picture into its place; return what is wrong with it."""
        try:
            image = open_picture(picture)
            with self.room.taken(decoding_bytes(image, self.shape), picture.name, image.size):
                pixels, transparent = decode_picture(image, picture.name, self.shape)
        except DataError as error:
            return error
        self.images_NHWC[position] = pixels
        if np.all(pixels == pixels[:1, :1]):
            self.flat[position] = picture.name, transparent
        return None

    def result(self, num_threads: int, skipped: Mapping[int, DataError]) -> DecodedPictures:
        """Everything, once all pictures are decoded."""
        return DecodedPictures(
            images_NHWC=_without(self.images_NHWC, sorted(skipped)),
            skipped=skipped,
            peak_bytes=self.room.peak_bytes(num_threads),
            num_flat=len(self.flat),
            num_flat_transparent=sum(transparent for _, transparent in self.flat.values()),
            first_flat=self.flat[min(self.flat)][0] if self.flat else "",
        )


def _without(images_NHWC: NDArray[np.uint8], positions: Sequence[int]) -> NDArray[np.uint8]:
    """The array without these rows, moved together in its own memory: block by block, as NumPy copies what overlaps."""
    for number, (position, after) in enumerate(pairwise([*positions, len(images_NHWC)])):
        for start in range(position + 1, after, _MOVED_AT_ONCE):
            stop = min(start + _MOVED_AT_ONCE, after)
            images_NHWC[start - number - 1 : stop - number - 1] = images_NHWC[start:stop]
    return images_NHWC[: len(images_NHWC) - len(positions)]
