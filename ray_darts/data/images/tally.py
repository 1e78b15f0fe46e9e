"""Sums up the pictures of a data set in their order: digest, mean and deviation, flat ones, those that cannot be used.

Knows pixels, and no pictures: what decodes them calls `add`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_darts.errors import DataError

_HASH_BYTES = 8


@dataclass
class Sums:
    """Of the pixels of some pictures, per channel: how many, their sum and the sum of their squares; exact."""

    count: int
    totals: list[int]
    squares: list[int]

    @classmethod
    def of(cls, pixels_NHWC: NDArray[np.uint8]) -> Sums:
        """In float64, which holds these integers exactly for any batch of pictures below 10^11 pixels."""
        levels = pixels_NHWC.reshape(-1, pixels_NHWC.shape[-1]).astype(np.float64)
        ones = np.ones(len(levels))
        totals, squares = ones @ levels, ones @ np.square(levels, out=levels)
        return cls(len(levels), [int(value) for value in totals], [int(value) for value in squares])

    def add(self, other: Sums) -> None:
        """Add the sums of other pictures."""
        self.count += other.count
        self.totals = [one + more for one, more in zip(self.totals, other.totals, strict=True)]
        self.squares = [one + more for one, more in zip(self.squares, other.squares, strict=True)]


@dataclass
class Tally:
    """What is known of the first `done` of `count` pictures, each of `shape` (height, width, channels).

    Positions count the pictures that were asked for. `skipped`: {position: what is wrong with it}; such a picture is in
    no other figure. `sums`: of the weight half. `flat`: pictures of one colour, of which `flat_transparent` had
    transparent pixels and `first_flat` is the first. `hashes`: of the pixels of each picture, where they are wanted.
    """

    count: int
    shape: tuple[int, int, int]
    done: int = 0
    skipped: dict[int, str] = field(default_factory=dict)
    sums: Sums = field(init=False)
    flat: int = 0
    flat_transparent: int = 0
    first_flat: str = ""
    hashes: NDArray[np.uint64] | None = None

    def __post_init__(self) -> None:
        channels = self.shape[2]
        self.sums = Sums(0, [0] * channels, [0] * channels)
        self._digest = hashlib.sha256(repr((self.count, *self.shape)).encode())

    def add(
        self,
        pixels_NHWC: NDArray[np.uint8],
        sums: Sums | None,
        skipped: Mapping[int, str],
        flat: Sequence[tuple[int, str, bool]],
    ) -> None:
        """Add the next pictures. `skipped` as above; `flat`: (position, name, had transparent pixels)."""
        start = self.done
        self._digest_of(pixels_NHWC, start, skipped)
        self.done += len(pixels_NHWC)
        self.skipped |= skipped
        if sums is not None:
            self.sums.add(sums)
        for _, name, transparent in flat:
            self.first_flat = self.first_flat or name
            self.flat += 1
            self.flat_transparent += transparent

    def _digest_of(self, pixels_NHWC: NDArray[np.uint8], start: int, skipped: Mapping[int, str]) -> None:
        if skipped:
            kept = np.ones(len(pixels_NHWC), bool)
            kept[[position - start for position in skipped]] = False
            pixels_NHWC = np.ascontiguousarray(pixels_NHWC[kept])
        self._digest.update(pixels_NHWC.data)

    def kept(self) -> NDArray[np.int64]:
        """The positions of the pictures that are not skipped, ascending."""
        return np.setdiff1d(np.arange(self.count, dtype=np.int64), list(self.skipped))

    def digest(self, labels: NDArray[np.int64]) -> str:
        """SHA-256 (hex) of shape, pixels and `labels`, those of the pictures that are kept. Raises: DataError."""
        if self.done != self.count:
            raise DataError(f"{self.done} pictures were read, {self.count} were there before: begin again")
        whole = self._digest.copy()
        whole.update(labels.astype("<i8").tobytes())
        return whole.hexdigest()

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per channel, of the pixels of the weight half in [0, 1]. Raises: DataError where one is 0."""
        count, sums = self.sums.count, self.sums
        variance = [(s * count - t**2) / count**2 for s, t in zip(sums.squares, sums.totals, strict=True)]
        if min(variance) <= 0:
            channel = variance.index(min(variance))
            raise DataError(f"channel {channel} is the same everywhere; set data.mean and data.std")
        return tuple(total / count / 255 for total in sums.totals), tuple(v**0.5 / 255 for v in variance)

    @property
    def is_constant(self) -> bool:
        """Whether a channel of the weight half is the same everywhere."""
        sums = self.sums
        return any(s * sums.count == t**2 for s, t in zip(sums.squares, sums.totals, strict=True))

    @property
    def all_flat(self) -> bool:
        """Whether no picture has two colours."""
        return self.flat == self.count - len(self.skipped)

    def flat_text(self, background: str) -> str:
        """How many pictures are one flat colour, and what to do."""
        number = self.count - len(self.skipped)
        text = f"{self.flat} of {number} pictures are one flat colour once decoded, first {self.first_flat}"
        if self.flat_transparent:
            return (
                f"{text}; {self.flat_transparent} of them have transparent pixels, which take the colour "
                f"data.background = {background!r}: set another one"
            )
        return f"{text}; look at these files, a search learns nothing from them"

    def as_json(self) -> dict[str, Any]:
        """All but the digest of the pixels and the hashes."""
        return {
            "done": self.done,
            "skipped": {str(position): text for position, text in self.skipped.items()},
            "sums": [self.sums.count, self.sums.totals, self.sums.squares],
            "flat": [self.flat, self.flat_transparent, self.first_flat],
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take what `as_json` gave; `digest_again` must follow where the digest is wanted."""
        self.done = saved["done"]
        self.skipped = {int(position): text for position, text in saved["skipped"].items()}
        self.sums = Sums(*saved["sums"])
        self.flat, self.flat_transparent, self.first_flat = saved["flat"]

    def digest_again(self, pixels_NHWC: NDArray[np.uint8], start: int) -> None:
        """Take pictures into the digest that `restore` knew already, in order."""
        inside = {position: "" for position in self.skipped if start <= position < start + len(pixels_NHWC)}
        self._digest_of(pixels_NHWC, start, inside)


def picture_hash(pixels_HWC: NDArray[np.uint8]) -> np.uint64:
    """64 bits that tell pictures apart."""
    digest = hashlib.blake2b(np.ascontiguousarray(pixels_HWC).data, digest_size=_HASH_BYTES).digest()
    return np.uint64(int.from_bytes(digest, "little"))
