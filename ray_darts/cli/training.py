"""Runs a training for the command line: its request, progress on stderr, the result as text or data."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from ray_darts.cli.notification import EndNotification
from ray_darts.cli.output import report_line
from ray_darts.cli.request import config_source, seeds_or_mistake
from ray_darts.cli.sweep import CONTINUES, live_table, log_on_stderr, outcome_lines, report_end
from ray_darts.orchestration.budget import Budget
from ray_darts.orchestration.trainings import TrainingRequest
from ray_darts.report.amounts import counted
from ray_darts.report.results import results_text, spread_text
from ray_darts.trainings import TrainingResult, read_training_request, run_training_request


def request_of(
    what: Sequence[str],
    *,
    preset: str | None,
    config: Path | None,
    name: str | None,
    seeds: str,
    overrides: Sequence[str] | None,
    store: str,
    operation: Mapping[str, object],
    max_parameters: int | None,
    max_multiply_adds: int | None,
    retry_failed: bool,
    allow_world_size_change: bool,
    address: str | None,
) -> tuple[TrainingRequest, Budget]:
    """Check the options of `ray-darts train`.

    Raises: ConfigError with a line per mistake, GenotypeError, StoreError.
    """
    source, mistakes = config_source(preset, config), list[str]()
    return read_training_request(
        list(what),
        source,
        seeds=seeds_or_mistake(seeds, mistakes),
        store=store,
        name=name,
        overrides=overrides or (),
        operation=operation,
        max_parameters=max_parameters,
        max_multiply_adds=max_multiply_adds,
        address=address,
        retry_failed=retry_failed,
        allow_world_size_change=allow_world_size_change,
        mistakes=mistakes,
    )


def train_and_report(request: TrainingRequest, budget: Budget, quiet: bool = False) -> TrainingResult:
    """Train until every run has ended or the user interrupts; show runs and the package's log on stderr.

    Raises: ConfigError, DataError, ClusterError, StoreError; KeyboardInterrupt after a second signal.
    """
    cells, seeds = counted(len(request.genotypes), "architecture"), counted(len(request.seeds), "seed")
    if not quiet:
        report_line(f"experiment {request.experiment} in {request.store_uri}: {cells}, {seeds}")
    name = request.experiment
    try:
        with log_on_stderr(name, quiet), redirect_stdout(sys.stderr), live_table(name, quiet) as table:
            result = run_training_request(request, budget, table.show)
    except KeyboardInterrupt:
        report_line(CONTINUES)
        raise
    report_end(result.exit_code)
    return result


def result_text(result: TrainingResult) -> str:
    """A line for each run, the statistics over seeds, and where all results are."""
    lines = outcome_lines(result.outcomes)
    if result.results is not None:
        lines.append(results_text(result.results))
    lines.append(f"all results: {result.store.rstrip('/')}/{result.experiment}/")
    return "\n".join(lines)


def tell_result(notification: EndNotification, result: TrainingResult) -> None:
    """Add the result to the notification of the end."""
    notification.exit_code = result.exit_code
    notification.runs = dict(Counter(outcome.kind for outcome in result.outcomes.values()))
    results = result.results
    ranked = [] if results is None else [cell for cell in results.ranked() if cell.spread.mean is not None]
    if results is not None and results.metric is not None and ranked:
        spread = spread_text(ranked[0].spread)
        best = {"run": ranked[0].name, "metric": f"{results.metric.name} {spread}", "genotype": ranked[0].genotype}
        notification.best = dict(best)


def result_data(result: TrainingResult) -> dict[str, object]:
    """The result as plain JSON-able data."""
    return {
        "experiment": result.experiment,
        "store": result.store,
        "outcomes": {run: outcome.to_plain() for run, outcome in result.outcomes.items()},
        "results": None if result.results is None else result.results.model_dump(mode="json"),
        "exit_code": result.exit_code,
    }
