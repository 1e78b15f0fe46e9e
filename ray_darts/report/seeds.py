"""The spread of finished runs over seeds: mean and deviation of the ranking metric, per method and gradient order."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from ray_darts.artifacts.records import Metric


_Group = TypeVar("_Group")


class RunGroup(NamedTuple):
    """The runs of one method and one order, which differ in their seeds.

    `prefix`: of the method's run names, empty for the default method. `order`: None for a method without one.
    """

    prefix: str
    order: str | None

    @classmethod
    def of(cls, run: str, seed: int, order: str | None) -> RunGroup:
        """The group of a run, by its name."""
        name = run.removesuffix(f"seed-{seed}")
        return cls(name if order is None else name.removesuffix(f"{order}-order-"), order)

    @property
    def key(self) -> str:
        """`first`, of another method `its-name-first`, without an order `its-name`."""
        return f"{self.prefix}{self.order or ''}".removesuffix("-")

    @property
    def title(self) -> str:
        """`first order`, `its-name first order`, `its-name`."""
        method = self.prefix.removesuffix("-")
        return method if self.order is None else f"{method} {self.order} order".lstrip()


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


def spread_over_seeds(runs: Iterable[tuple[_Group, Metric | None]]) -> Mapping[_Group, Spread]:
    """{group: spread} of (group, metric) of each run; groups with fewer than two finite values are left out."""
    values: dict[tuple[_Group, str], list[float]] = {}
    for group, metric in runs:
        if metric is not None and metric.value is not None:
            values.setdefault((group, metric.name), []).append(metric.value)
    return {group: Spread(name, tuple(each)) for (group, name), each in values.items() if len(each) > 1}
