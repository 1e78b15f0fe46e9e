"""What runs say of themselves on the way to Ray Tune: the metrics of an epoch, and that a run has ended.

A report is one text among the metrics of Ray's own report, so that nothing that Ray adds to those is taken for ours.
Knows no store and no Ray.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ray_darts.tasks.metrics import Scalar

REPORT = "ray_darts_report"
"""The key of a report's text in what Ray carries."""


@dataclass(frozen=True)
class RunReport:
    """The last that is known of a run through Ray. `number`: grows with each; `metrics`: of the last epoch reported,
    which may be newer than the last durable step; `is_over`: whether the run has ended for this command."""

    number: int
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    is_over: bool = False


def report_text(run: str, metrics: Mapping[str, object]) -> str:
    """A report as a worker sends it."""
    return json.dumps({"run": run, "metrics": dict(metrics)})


class RunReports(dict[str, RunReport]):
    """{run: its last report}; written by one thread, read by others."""

    def add(self, text: str) -> str:
        """Note the text of a report; returns the run that it is of."""
        plain = json.loads(text)
        run = str(plain["run"])
        self[run] = RunReport(self._next(run), plain["metrics"])
        return run

    def mark(self, run: str) -> None:
        """Note that a run has changed in a way that no metric says."""
        self[run] = RunReport(self._next(run), self[run].metrics if run in self else {})

    def end(self, runs: Iterable[str]) -> None:
        """Note that runs have ended."""
        for run in runs:
            self[run] = RunReport(self._next(run), self[run].metrics if run in self else {}, is_over=True)

    def _next(self, run: str) -> int:
        return self[run].number + 1 if run in self else 1
