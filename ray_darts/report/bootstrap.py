"""A bootstrap interval of the difference of two means. Plain Python, seeded: the same values give the same interval."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ray_darts.artifacts.spread import quantile

RESAMPLES = 10_000
COVERAGE = 0.95
_FEWEST_FOR_MEANING = 3


@dataclass(frozen=True)
class Interval:
    """A percentile interval. `means_little`: with fewer than 3 values on a side there are hardly any resamples."""

    lower: float
    upper: float
    means_little: bool

    @property
    def holds_zero(self) -> bool:
        """Whether no difference is among what the interval covers."""
        return self.lower <= 0.0 <= self.upper


def difference_interval(
    first: Sequence[float], second: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval | None:
    """The percentile interval (95 %) of mean(first) - mean(second), each side resampled with replacement.

    None with fewer than 2 values on a side (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, chapter 13).
    """
    fewest = min(len(first), len(second))
    if fewest < 2:
        return None
    draw = random.Random(seed)
    differences = sorted(
        fmean(draw.choices(first, k=len(first))) - fmean(draw.choices(second, k=len(second))) for _ in range(resamples)
    )
    tail = (1 - COVERAGE) / 2
    lower, upper = quantile(differences, tail), quantile(differences, 1 - tail)
    assert lower is not None
    assert upper is not None
    return Interval(lower, upper, fewest < _FEWEST_FOR_MEANING)
