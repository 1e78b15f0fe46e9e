"""Decodes all pictures of a data set once, on all cores and within a limit of memory; names bad ones together.

Knows neither the sources of pictures, nor how one is decoded, nor where pixels are kept.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.images.decoding_room import DecodingRoom
from ray_darts.data.images.pictures import NeverSkipped, Picture, PictureShape
from ray_darts.data.images.tally import Sums, Tally, picture_hash
from ray_darts.data.summary import MOST_PROBLEMS, raise_together
from ray_darts.errors import DataError

_MOST_AT_ONCE = 512
_CHUNK_BYTES = 64 << 20
_IN_A_TASK = 16
_CHUNKS_AHEAD = 2
_SUMMED_AT_ONCE = 1 << 20

Into = Callable[[int, int], NDArray[np.uint8]]
"""into(start, stop): an array [stop - start, size, size, channels] to decode these positions into."""

AfterChunk = Callable[[int, NDArray[np.uint8]], None]
"""after_chunk(start, pixels): called with the pictures from position `start` on, once they are in the tally."""


@dataclass
class Decoder:
    """Decodes the pictures of a data set to `shape`, in `room`, at most `most_skipped` of them left out.

    `is_weight`: of each position, whether it is in the weight half.
    """

    shape: PictureShape
    room: DecodingRoom
    is_weight: NDArray[np.bool_]
    most_skipped: int = 0
    _problems: dict[int, DataError] = field(default_factory=dict)
    _broken: list[DataError] = field(default_factory=list)

    def decode_all(self, pictures: Iterator[Picture], into: Into, tally: Tally, after_chunk: AfterChunk) -> None:
        """Decode `pictures`, which follow those that `tally` knows.

        Raises: DataError naming up to ten pictures that are missing, corrupt, too large or of another size.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for start, pixels_NHWC, tasks in self._chunks(pool, pictures, into, tally):
                found = [task.result() for task in tasks]
                problems = {position: error for one in found for position, error in one.problems.items()}
                self._problems |= problems
                sums = Sums(0, [0] * self.shape.channels, [0] * self.shape.channels)
                for one in found:
                    sums.add(one.sums)
                flat = [entry for one in found for entry in one.flat]
                tally.add(pixels_NHWC, sums, {position: str(error) for position, error in problems.items()}, flat)
                if not self._is_refused(tally):  # what is kept of a failed reading would fail the next one, too
                    after_chunk(start, pixels_NHWC)
        self._raise_problems(tally)

    def _chunks(
        self, pool: ThreadPoolExecutor, pictures: Iterator[Picture], into: Into, tally: Tally
    ) -> Iterator[tuple[int, NDArray[np.uint8], list[Future[_Found]]]]:
        """(position, its pixels, the tasks that decode them), one chunk read and decoded ahead of the one yielded."""
        size = max(_IN_A_TASK, min(_MOST_AT_ONCE, _CHUNK_BYTES // self.shape.picture_bytes))
        waiting: deque[tuple[int, NDArray[np.uint8], list[Future[_Found]]]] = deque()
        position = tally.done
        while True:
            group = self._next(pictures, size) if len(tally.skipped) < self.most_skipped + MOST_PROBLEMS else []
            if group:
                pixels_NHWC = into(position, position + len(group))
                hashes = None if tally.hashes is None else tally.hashes[position : position + len(group)]
                tasks = [
                    pool.submit(
                        self._decode,
                        position + first,
                        group[first : first + _IN_A_TASK],
                        pixels_NHWC[first : first + _IN_A_TASK],
                        None if hashes is None else hashes[first : first + _IN_A_TASK],
                    )
                    for first in range(0, len(group), _IN_A_TASK)
                ]
                waiting.append((position, pixels_NHWC, tasks))
                position += len(group)
            if not waiting:
                return
            if not group or len(waiting) == _CHUNKS_AHEAD:
                yield waiting.popleft()

    def _next(self, pictures: Iterator[Picture], size: int) -> list[Picture]:
        if self._broken:
            return []
        group: list[Picture] = []
        num_bytes = 0
        try:
            for picture in islice(pictures, size):
                group.append(picture)
                num_bytes += len(picture.content) if isinstance(picture.content, bytes) else 0
                if num_bytes > _CHUNK_BYTES:
                    break
        except DataError as error:
            self._broken.append(error)
        return group

    def _decode(
        self,
        first: int,
        pictures: list[Picture],
        pixels_NHWC: NDArray[np.uint8],
        hashes: NDArray[np.uint64] | None,
    ) -> _Found:
        """Decode pictures into their places."""
        problems: dict[int, DataError] = {}
        flat: list[tuple[int, str, bool]] = []
        for place, picture in enumerate(pictures):
            try:
                pixels, transparent = self.room.decode(picture, self.shape)
            except DataError as error:
                problems[first + place] = error
                continue
            pixels_NHWC[place] = pixels
            if hashes is not None:
                hashes[place] = picture_hash(pixels)
            if is_flat(pixels):
                flat.append((first + place, picture.name, transparent))
        counted = self.is_weight[first : first + len(pictures)].copy()
        counted[[position - first for position in problems]] = False
        sums = Sums(0, [0] * self.shape.channels, [0] * self.shape.channels)
        at_once = max(1, _SUMMED_AT_ONCE // self.shape.picture_bytes)
        for place in range(0, len(pictures), at_once):
            sums.add(Sums.of(pixels_NHWC[place : place + at_once][counted[place : place + at_once]]))
        return _Found(problems, flat, sums)

    def _is_refused(self, tally: Tally) -> bool:
        never = any(isinstance(problem, NeverSkipped) for problem in self._problems.values())
        return bool(self._broken) or never or len(tally.skipped) > self.most_skipped

    def _raise_problems(self, tally: Tally) -> None:
        never = [problem for problem in self._problems.values() if isinstance(problem, NeverSkipped)]
        if not self._is_refused(tally):
            return
        others = [problem for problem in self._problems.values() if not isinstance(problem, NeverSkipped)]
        earlier = [DataError(text) for position, text in tally.skipped.items() if position not in self._problems]
        more = f" (data.max_skipped = {self.most_skipped})" if self.most_skipped else ""
        raise_together([*self._broken, *never, *earlier, *others], f"pictures cannot be used{more}")


def is_flat(pixels_HWC: NDArray[np.uint8]) -> bool:
    """Whether all pixels are equal; of most pictures the first row alone tells that they are not."""
    colour = pixels_HWC[:1, :1]
    return bool(np.all(pixels_HWC[:1] == colour) and np.all(pixels_HWC == colour))


@dataclass(frozen=True)
class _Found:
    """Of a few pictures: {position: what is wrong}, (position, name, had transparent pixels) of flat ones, sums."""

    problems: dict[int, DataError]
    flat: list[tuple[int, str, bool]]
    sums: Sums
