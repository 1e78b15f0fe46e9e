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

from ray_darts.data.images.pictures import Picture, PictureShape, decode_picture, decoding_bytes, open_picture
from ray_darts.data.memory import gigabytes
from ray_darts.data.summary import MOST_PROBLEMS, raise_together
from ray_darts.errors import DataError

_DECODED_AT_ONCE = 512


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


class _NoRoom(DataError):
    """A picture that this machine has no memory to decode: never skipped, as another machine may have it."""


def decode_all(
    pictures: Iterator[Picture], count: int, shape: PictureShape, limit_bytes: int, most_skipped: int = 0
) -> DecodedPictures:
    """Decode `count` pictures in order; no more at a time than fit `limit_bytes` beside the array.

    At most `most_skipped` that cannot be used are left out.
    Raises: DataError naming up to ten pictures that are missing, corrupt, too large or of another size.
    """
    work = _Decoding(shape, np.empty((count, shape.size, shape.size, shape.channels), np.uint8), limit_bytes)
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
    no_room = [problem for problem in problems.values() if isinstance(problem, _NoRoom)]
    if broken or no_room or len(problems) > most_skipped:
        others = [problem for problem in problems.values() if not isinstance(problem, _NoRoom)]
        more = f" (data.max_skipped = {most_skipped})" if most_skipped else ""
        raise_together([*broken, *no_room, *others], f"pictures cannot be used{more}")
    assert position == count, f"{position} pictures were read, {count} were expected"
    return work.result(min(os.cpu_count() or 1, count), problems)


@dataclass
class _Decoding:
    """What the threads share: the array that they fill, the memory in use, and what they found."""

    shape: PictureShape
    images_NHWC: NDArray[np.uint8]
    limit_bytes: int
    changed: Condition = field(default_factory=Condition)
    used_bytes: int = 0
    largest: list[int] = field(default_factory=list)
    flat: dict[int, tuple[str, bool]] = field(default_factory=dict)

    def decode(self, position: int, picture: Picture) -> DataError | None:
        """Decode one picture into its place; return what is wrong with it."""
        try:
            image = open_picture(picture)
            with self._memory(
                decoding_bytes(image, self.shape), f"{picture.name} of {image.width}x{image.height} pixels"
            ):
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
            peak_bytes=min(sum(heapq.nlargest(num_threads, self.largest)), self.limit_bytes),
            num_flat=len(self.flat),
            num_flat_transparent=sum(transparent for _, transparent in self.flat.values()),
            first_flat=self.flat[min(self.flat)][0] if self.flat else "",
        )

    @contextmanager
    def _memory(self, num_bytes: int, what: str) -> Iterator[None]:
        """Wait until `num_bytes` are free. Raises: DataError when they never will be."""
        if num_bytes > self.limit_bytes:
            raise _NoRoom(
                f"decoding {what} needs {gigabytes(num_bytes)} GB beside the data set's "
                f"{gigabytes(self.images_NHWC.nbytes)} GB, {gigabytes(self.limit_bytes)} GB are left: make it smaller"
            )
        with self.changed:
            self.changed.wait_for(lambda: self.used_bytes + num_bytes <= self.limit_bytes)
            self.used_bytes += num_bytes
            heapq.heappush(self.largest, num_bytes)
            if len(self.largest) > (os.cpu_count() or 1):
                heapq.heappop(self.largest)
        try:
            yield
        finally:
            with self.changed:
                self.used_bytes -= num_bytes
                self.changed.notify_all()


def _without(images_NHWC: NDArray[np.uint8], positions: Sequence[int]) -> NDArray[np.uint8]:
    """The array without these rows, moved together in its own memory."""
    for number, (position, after) in enumerate(pairwise([*positions, len(images_NHWC)])):
        images_NHWC[position - number : after - number - 1] = images_NHWC[position + 1 : after]
    return images_NHWC[: len(images_NHWC) - len(positions)]
