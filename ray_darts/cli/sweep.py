"""Runs a search for the command line: the story on stderr while it goes on, and its answer as text or data."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.cli.exits import DONE, INTERRUPTED, STORE_GIVEN_UP
from ray_darts.cli.output import tell
from ray_darts.genotype.darts_text import to_darts
from ray_darts.orchestration.plan import SweepRequest
from ray_darts.orchestration.sweep import SweepResult, run_sweep
from ray_darts.report.amounts import counted
from ray_darts.report.table import LiveTable


@dataclass(frozen=True)
class Answer:
    """What a search leaves for its user."""

    request: SweepRequest
    result: SweepResult

    @property
    def exit_code(self) -> int:
        return self.result.exit_code

    def text(self) -> str:
        """A line for each run, the best genotype so far, and where everything lies."""
        outcomes = self.result.outcomes
        lines = [
            f"{run:<24}{outcome.kind:<16}step {outcome.step}{f'  {outcome.detail}' if outcome.detail else ''}"
            for run, outcome in outcomes.items()
        ]
        best = self.result.best
        if best is None:
            lines.append("no run has finished yet, so there is no best genotype")
        else:
            metric = best.metric
            value = "not finite" if metric.value is None else f"{metric.value:.6g}"
            lines.append(f"best: {best.run}, {metric.name} {value} ({metric.ranking} ranking)")
            lines.append(to_darts(best.architecture()))
        lines.append(f"all of it: {self.request.store_uri.rstrip('/')}/{ExperimentKeys(self.request.experiment).root}")
        return "\n".join(lines)

    def to_data(self) -> dict[str, object]:
        """Plain JSON-able data."""
        best = self.result.best
        return {
            "experiment": self.request.experiment,
            "store": self.request.store_uri,
            "outcomes": {run: outcome.to_plain() for run, outcome in self.result.outcomes.items()},
            "best": None if best is None else best.model_dump(mode="json"),
            "exit_code": self.exit_code,
        }


class _Story(logging.Handler):
    """Log lines to whatever stderr is now, so that they pass above a live table; in a file they name the experiment."""

    def __init__(self, experiment: str) -> None:
        super().__init__()
        self._experiment = experiment

    def emit(self, record: logging.LogRecord) -> None:
        place = "" if sys.stderr.isatty() else f" experiment={self._experiment}"
        sys.stderr.write(f"{self.format(record)}{place}\n")


@contextmanager
def _log_told(experiment: str) -> Iterator[None]:
    """Tell what the package logs while the block runs."""
    log, handler = logging.getLogger("ray_darts"), _Story(experiment)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def run_request(request: SweepRequest) -> Answer:
    """Search until every run has ended or the user interrupts; shows runs and the package's log on stderr.

    Raises: ConfigError, DataError, ClusterError, StoreError.
    """
    seeds, orders = counted(len(request.seeds), "seed"), " and ".join(request.orders)
    tell(f"experiment {request.experiment} in {request.store_uri}: {seeds}, {orders} order")
    # Ray prints warnings to stdout, where only results belong
    with _log_told(request.experiment), redirect_stdout(sys.stderr), LiveTable(request.experiment) as table:
        answer = Answer(request, run_sweep(request, table.show))
    _tell_next(answer.exit_code)
    return answer


def _tell_next(code: int) -> None:
    if code in (INTERRUPTED, STORE_GIVEN_UP):
        tell("everything committed is safe: the same command continues")
    elif code != DONE:
        tell("not every run has finished; see the lines above")
