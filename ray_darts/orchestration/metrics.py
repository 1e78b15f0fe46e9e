"""Numbers of a run for Prometheus, through ray.util.metrics: one gauge per name, tagged with experiment and run."""

from __future__ import annotations

import re

from ray.util.metrics import Gauge

from ray_darts.orchestration.assignment import Assignment

_TAGS = ("experiment", "run", "order")


class RunGauges:
    """Gauges `ray_darts_<name>`, made when first set."""

    def __init__(self, assignment: Assignment) -> None:
        self._tags = {"experiment": assignment.experiment, "run": assignment.run, "order": assignment.order}
        self._gauges: dict[str, Gauge] = {}

    def set(self, name: str, value: float) -> None:
        """Show `value`; characters that a metric's name cannot have become underscores."""
        name = "ray_darts_" + re.sub(r"\W", "_", name)
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, description=f"of a search run: {name}", tag_keys=_TAGS)
        self._gauges[name].set(value, tags=self._tags)
