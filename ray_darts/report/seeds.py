"""The spread of finished runs over seeds: mean and standard deviation of the ranking metric, per gradient order."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_darts.artifacts.records import Metric


@dataclass(frozen=True)
class Spread:
    """`values` of `metric`, one for each seed; at least two."""

    metric: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """The sample standard deviation (n - 1 in the denominator)."""
        return statistics.stdev(self.values)

    def text(self) -> str:
        """`supernet_validation_accuracy 0.95 ± 0.0041 (mean and deviation of 3 seeds)`."""
        return f"{self.metric} {self.mean:.4g} ± {self.deviation:.2g} (mean and deviation of {len(self.values)} seeds)"

    def to_data(self) -> dict[str, object]:
        """Plain JSON-able data."""
        return {"metric": self.metric, "seeds": len(self.values), "mean": self.mean, "deviation": self.deviation}


def spread_over_seeds(runs: Iterable[tuple[str, Metric | None]]) -> Mapping[str, Spread]:
    """{order: spread} of (order, metric) of each run; orders with fewer than two finite values are left out."""
    values: dict[tuple[str, str], list[float]] = {}
    for order, metric in runs:
        if metric is not None and metric.value is not None:
            values.setdefault((order, metric.name), []).append(metric.value)
    return {order: Spread(name, tuple(each)) for (order, name), each in values.items() if len(each) > 1}
