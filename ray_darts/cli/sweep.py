"""Runs a search for the command line: progress on stderr while it runs, and its result as text or data."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout

from ray_darts import api, searches
from ray_darts.artifacts.keys import selection_of
from ray_darts.cli.best import metric_text
from ray_darts.cli.notification import EndNotification
from ray_darts.cli.output import report_line
from ray_darts.errors import GenotypeError
from ray_darts.exit_codes import BUDGET_SPENT, DONE, INTERRUPTED, STORE_GIVEN_UP
from ray_darts.messages import escaped
from ray_darts.orchestration.assignment import RunOutcome
from ray_darts.orchestration.requests import SearchRequest
from ray_darts.report.amounts import counted
from ray_darts.report.seeds import RunGroup, Spread, spread_over_seeds
from ray_darts.report.selection import selection_data, selection_lines
from ray_darts.report.table import LiveTable, warning_line

CONTINUES = "everything committed is safe: the same command continues"


def search_and_report(request: SearchRequest, quiet: bool = False) -> searches.SearchResult:
    """Search until every run has ended or the user interrupts; show runs and the package's log on stderr.

    `quiet`: only warnings of both.

    Raises: ConfigError, DataError, ClusterError, StoreError; KeyboardInterrupt after a second signal.
    """
    seeds = counted(len(request.seeds), "seed")
    if not quiet:
        report_line(f"experiment {request.experiment} in {request.store_uri}: {seeds}, {_searched(request)}")
    try:
        # Ray prints warnings to stdout, where only results belong
        with log_on_stderr(request.experiment, quiet), redirect_stdout(sys.stderr):
            with live_table(request.experiment, quiet) as table:
                result = searches.run_search(request, table.show)
            if searches.may_select(request, result):
                with live_table(selection_of(request.experiment), quiet) as table:
                    result = searches.run_selection(request, result, table.show)
            result = searches.publish_page(request, result)
    except KeyboardInterrupt:
        report_line(CONTINUES)
        raise
    report_end(result.exit_code)
    return result


def report_end(exit_code: int) -> None:
    """Say on stderr what an exit code other than 0 means."""
    if exit_code in (INTERRUPTED, STORE_GIVEN_UP):
        report_line(CONTINUES)
    elif exit_code == BUDGET_SPENT:
        report_line(f"the budget is spent; {CONTINUES} once it is raised")
    elif exit_code != DONE:
        report_line("not every run has finished; see the lines above")


@contextmanager
def live_table(experiment: str, quiet: bool = False) -> Iterator[LiveTable]:
    """A live table of an experiment's runs; removed from the terminal when the command is interrupted."""
    with LiveTable(experiment, quiet=quiet) as table:
        try:
            yield table
        except KeyboardInterrupt:
            table.erase()
            raise


def outcome_lines(outcomes: Mapping[str, RunOutcome]) -> list[str]:
    """One line for each run: how it ended for this command."""
    width = max(map(len, outcomes), default=0) + 2
    return [
        f"{run:<{width}}{outcome.kind:<16}step {outcome.step}{f'  {outcome.detail}' if outcome.detail else ''}"
        for run, outcome in outcomes.items()
    ]


def result_text(result: searches.SearchResult) -> str:
    """A line for each run, the spread over seeds, the warnings, the best genotype and where all results are."""
    lines = outcome_lines(result.outcomes)
    lines += [f"{group.title}: {spread.text()}" for group, spread in _spread(result).items()]
    lines += [line for line in (warning_line(run.status) for run in result.runs) if line]
    if result.selection is not None:
        lines += selection_lines(result.selection)
    if result.best is None:
        finished = any(outcome.kind == "finished" for outcome in result.outcomes.values())
        finished = finished or any(run.status.state == "finished" for run in result.runs)
        why = "it cannot be read now" if finished else "no run has finished yet"
        if result.selection is not None:
            why = "no cell that may be selected has a score"
        lines.append(f"no best genotype: {why}")
    else:
        lines.append(f"best: {result.best.run}, {metric_text(result.best)}")
        if result.best.warning is not None:
            lines.append(f"warning of the best run: {result.best.warning}")
        try:
            lines.append(api.write_text(result.best))
        except GenotypeError:  # its space has no text form
            lines.append(result.best.architecture().to_json())
    lines.append(f"all results: {result.store.rstrip('/')}/{result.experiment}/")
    command = f"ray-darts report {result.experiment} --store {result.store} writes one"
    lines.append(f"page: {command if result.report is None else result.report}")
    return "\n".join(lines)


def result_data(result: searches.SearchResult) -> dict[str, object]:
    """The result as plain JSON-able data."""
    return {
        "experiment": result.experiment,
        "store": result.store,
        "outcomes": {run: outcome.to_plain() for run, outcome in result.outcomes.items()},
        "best": None if result.best is None else result.best.model_dump(mode="json"),
        "orders": {group.key: spread.to_data() for group, spread in _spread(result).items()},
        "selection": None if result.selection is None else selection_data(result.selection),
        "warnings": {run.run: run.status.warning for run in result.runs if run.status.warning is not None},
        "report": result.report,
        "exit_code": result.exit_code,
    }


def tell_result(notification: EndNotification, result: searches.SearchResult) -> None:
    """Add the result to the notification of the end."""
    notification.exit_code = result.exit_code
    notification.report = result.report
    notification.runs = dict(Counter(outcome.kind for outcome in result.outcomes.values()))
    if result.best is not None:
        notification.best = {
            "run": result.best.run,
            "metric": metric_text(result.best),
            "genotype": result.best.genotype,
            "warning": result.best.warning,
        }


def _spread(result: searches.SearchResult) -> Mapping[RunGroup, Spread]:
    return spread_over_seeds((RunGroup.of(run.run, run.seed, run.order), run.status.metric) for run in result.runs)


def _searched(request: SearchRequest) -> str:
    """`first and second order, random`: the orders of each method."""
    return ", ".join(
        RunGroup(method.run_prefix, " and ".join(filter(None, request.orders_of(method))) or None).title
        for method in request.searched
    )


class _StderrHandler(logging.Handler):
    """Writes log lines to the present sys.stderr, so that they pass above a live table; in a file with the experiment.

    A live table replaces sys.stderr while it is shown.
    """

    def __init__(self, experiment: str) -> None:
        super().__init__()
        self._experiment = experiment

    def emit(self, record: logging.LogRecord) -> None:
        suffix = "" if sys.stderr.isatty() else f" experiment={self._experiment}"
        sys.stderr.write(escaped(f"{self.format(record)}{suffix}\n"))


@contextmanager
def log_on_stderr(experiment: str, quiet: bool = False) -> Iterator[None]:
    """Write what the package logs to stderr while the block runs; `quiet`: only warnings."""
    log, handler = logging.getLogger("ray_darts"), _StderrHandler(experiment)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
