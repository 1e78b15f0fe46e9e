"""Thins long histories for drawings: each column's least and greatest value of every stretch of steps is kept."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Thinned(NamedTuple):
    """`steps` [n] ascending, `values` [n, columns]; `stride`: steps that two points stand for, 1 where all are kept."""

    steps: NDArray[np.int64]
    values: NDArray[np.float32]
    stride: int


def thinned(steps: NDArray[np.int64], values: NDArray[np.float32], most: int) -> Thinned:
    """At most about `most` points of `values` [steps, columns]; the first and the last step are kept as they are.

    A stretch of `stride` steps becomes two points, its least and its greatest value in the order in which they came,
    column by column, so no extreme is lost; their steps are the stretch's first and middle one.
    """
    num_steps = len(steps)
    if num_steps <= most:
        return Thinned(steps, values, 1)
    stride = -(-2 * (num_steps - 2) // max(2, most - 2))
    inner = values[1:-1]
    whole = len(inner) // stride * stride
    stretches = [_extremes(inner[:whole].reshape(-1, stride, values.shape[1]))]
    starts = list(range(0, whole, stride))
    if whole < len(inner):
        stretches.append(_extremes(inner[np.newaxis, whole:]))
        starts.append(whole)
    first = np.array(starts, np.int64) + 1
    middle = np.minimum(first + max(1, stride // 2), num_steps - 2)
    kept_steps = np.concatenate([steps[:1], np.stack([steps[first], steps[middle]], 1).reshape(-1), steps[-1:]])
    return Thinned(kept_steps, np.concatenate([values[:1], *stretches, values[-1:]]), stride)


def _extremes(stretches: NDArray[np.float32]) -> NDArray[np.float32]:
    """[2 n, columns] of stretches [n, steps, columns]: least and greatest, the earlier one first."""
    least, greatest = stretches.min(1), stretches.max(1)
    least_first = stretches.argmin(1) <= stretches.argmax(1)
    pairs = np.stack([np.where(least_first, least, greatest), np.where(least_first, greatest, least)], 1)
    return pairs.reshape(-1, stretches.shape[2])
