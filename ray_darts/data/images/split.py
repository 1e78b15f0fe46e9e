"""Splits samples into the test set, the weight half and the alpha half, stratified by label, equally for all runs.

Knows labels and row numbers, no images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.batch import generator
from ray_darts.data.streams import permutation
from ray_darts.errors import DataError


@dataclass(frozen=True)
class Split:
    """Row numbers of the weight half and of the alpha half, int64, each ascending and disjoint."""

    weight: NDArray[np.int64]
    alpha: NDArray[np.int64]

    def without(self, rows: NDArray[np.int64]) -> Split:
        """Both halves without these rows."""
        return Split(np.setdiff1d(self.weight, rows), np.setdiff1d(self.alpha, rows))

    def digest(self) -> str:
        """SHA-256 (hex) of both halves' row numbers."""
        digest = hashlib.sha256()
        for half in (self.weight, self.alpha):
            digest.update(len(half).to_bytes(8, "little"))
            digest.update(half.astype("<i8").tobytes())
        return digest.hexdigest()


NO_ROWS = np.empty(0, np.int64)


def held_out_rows(
    labels: NDArray[np.int64], num_classes: int, *, test_fraction: float, split_seed: int
) -> NDArray[np.int64]:
    """Draw `test_fraction` of each class, rounded to whole samples: row numbers, ascending; none where it is 0.

    Depends on no other setting, so a search and a training of another `fraction` hold the same rows out.
    Raises: DataError when a class has no sample among them.
    """
    if test_fraction == 0:
        return NO_ROWS
    drawn: list[NDArray[np.int64]] = []
    for label in range(num_classes):
        rows = np.flatnonzero(labels == label)
        count = round(test_fraction * len(rows))
        if count == 0:
            raise DataError(
                f"class {label} has no sample in the test set: data.test_fraction = {test_fraction} of its "
                f"{len(rows)} samples is none; raise data.test_fraction, or remove the class",
                label=label,
            )
        drawn.append(rows[permutation(generator(split_seed, "test", label), len(rows))[:count]])
    return np.sort(np.concatenate(drawn))


def stratified_split(
    labels: NDArray[np.int64],
    num_classes: int,
    *,
    fraction: float,
    alpha_fraction: float,
    split_seed: int,
    held_out: NDArray[np.int64] = NO_ROWS,
) -> Split:
    """Take `fraction` of each class, and `alpha_fraction` of that for alpha, rounded to whole samples.

    Rows of `held_out` are in neither half. Raises: DataError when a class has no sample in one of the halves.
    """
    weight: list[NDArray[np.int64]] = []
    alpha: list[NDArray[np.int64]] = []
    for label in range(num_classes):
        rows, used = _used(labels, label, fraction, split_seed, held_out)
        num_alpha = round(alpha_fraction * len(used))
        if num_alpha == 0 or num_alpha == len(used):
            half = "alpha" if num_alpha == 0 else "weight"
            beside = " outside the test set" if len(held_out) else ""
            raise DataError(
                f"class {label} has no sample in the {half} half: of its {len(rows)} samples{beside} data.fraction = "
                f"{fraction} keeps {len(used)}, and data.alpha_fraction = {alpha_fraction} gives {num_alpha} to alpha; "
                "raise data.fraction, move data.alpha_fraction towards 0.5, or remove the class",
                label=label,
                half=half,
            )
        alpha.append(used[:num_alpha])
        weight.append(used[num_alpha:])
    return Split(np.sort(np.concatenate(weight)), np.sort(np.concatenate(alpha)))


def rows_of_classes(
    labels: NDArray[np.int64],
    num_classes: int,
    *,
    fraction: float,
    split_seed: int,
    held_out: NDArray[np.int64] = NO_ROWS,
) -> NDArray[np.int64]:
    """Take `fraction` of each class, as `stratified_split`, undivided and ascending.

    Raises: DataError when a class has no sample among them.
    """
    taken: list[NDArray[np.int64]] = []
    for label in range(num_classes):
        rows, used = _used(labels, label, fraction, split_seed, held_out)
        if not len(used):
            raise DataError(
                f"class {label} has no training sample: data.fraction = {fraction} of its {len(rows)} samples is none; "
                "raise data.fraction, or remove the class",
                label=label,
            )
        taken.append(used)
    return np.sort(np.concatenate(taken))


def _used(
    labels: NDArray[np.int64], label: int, fraction: float, split_seed: int, held_out: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of a class outside the test set, and those of them that are used, in the order of their draw."""
    rows = np.setdiff1d(np.flatnonzero(labels == label), held_out, assume_unique=True)
    return rows, rows[permutation(generator(split_seed, "split", label), len(rows))[: round(fraction * len(rows))]]
