"""The spread of one number over the seeds of a cell, as results store it. Knows no store."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Self

from ray_darts.artifacts.documents import Facts


class Spread(Facts):
    """Statistics of `count` finite values; null where there are too few of them.

    `deviation` is that of a sample (count - 1 in the denominator), null for one value. Quartiles are interpolated
    linearly: the p-quantile of the sorted values v[0..n-1] lies at position p * (n - 1), as in R's type 7 and NumPy.
    """

    count: int
    mean: float | None
    deviation: float | None
    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The spread of finite values."""
        ordered = sorted(values)
        return cls(
            count=len(ordered),
            mean=statistics.fmean(ordered) if ordered else None,
            deviation=statistics.stdev(ordered) if len(ordered) > 1 else None,
            median=quantile(ordered, 0.5),
            lower_quartile=quantile(ordered, 0.25),
            upper_quartile=quantile(ordered, 0.75),
        )


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The quantile of sorted values, interpolated linearly at position share * (n - 1); None without values."""
    if not ordered:
        return None
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
