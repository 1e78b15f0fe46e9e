"""`ray-darts status`: how far each run is, read from the store alone, on any machine that can read it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ExperimentName, Json, Store, StoreOverrides
from ray_darts.cli.output import show_result

if TYPE_CHECKING:
    from ray_darts.artifacts.best import Best
    from ray_darts.artifacts.status import RunStatus
    from ray_darts.experiment import Experiment

    Choose = Callable[[Sequence[RunStatus]], list[RunStatus]]

WATCH_EVERY_S = 5.0


def status(
    experiment: ExperimentName,
    store: Store = DEFAULT_STORE,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE,…", help="Show runs in these states only, such as failed,searching."),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="[-]FIELD",
            help="By run (as without it), state, step, epoch, loss, metric, age, left or claims; -step: highest first.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=0, help="Show N runs at most; 0: the summary alone.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every 5 s until all runs have ended.")] = False,
    overrides: StoreOverrides = None,
    as_json: Json = False,
) -> None:
    """Show how many runs are in which state, the best so far, then how far each run is and which command searches it.

    The summary is of all runs, whatever is shown of them.
    """
    from ray_darts.cli.stores import open_named_experiment
    from ray_darts.report.summary import check_choice, choose_runs, summary_lines
    from ray_darts.report.table import status_text

    def choose(runs: Sequence[RunStatus]) -> list[RunStatus]:
        return choose_runs(runs, state, sort, limit)

    check_choice(state, sort)
    opened = open_named_experiment(store, experiment, overrides)
    if watch:
        _watch(opened, choose, as_json)
        return
    runs = opened.status()
    best, shown = _best(opened), choose(runs)
    if as_json:
        show_result("", _data(runs, best, shown), as_json)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines = [*summary_lines(runs, best, len(shown)), ""] if runs else []
    table = status_text(shown, width) if shown or not runs else ""
    data = opened.data()
    show_result("\n".join([*lines, *filter(None, [table, "" if data is None else data.line()])]), None, False)


def run_data(run: RunStatus) -> dict[str, object]:
    """One run's status as plain JSON-able data; times in seconds."""
    return {
        "run": run.run,
        "state": run.state,
        "step": run.step,
        "total_steps": run.total_steps,
        "epoch": run.epoch,
        "claims": run.claims,
        "failures": run.failures,
        "preemptions": run.preemptions,
        "spent": run.spent.model_dump(mode="json"),
        "age_s": run.age_s,
        "commit_seconds": run.commit_seconds,
        "latest": dict(run.latest),
        "owner": run.owner.model_dump(mode="json") if run.owner else None,
        "environment": run.environment.model_dump(mode="json") if run.environment else None,
        "warning": run.warning,
        "metric": run.metric.model_dump(mode="json") if run.metric else None,
        "failure": run.failure.model_dump(mode="json") if run.failure else None,
    }


def _data(runs: Sequence[RunStatus], best: Best | None, shown: Sequence[RunStatus]) -> dict[str, object]:
    from ray_darts.report.summary import summary_data

    return {"summary": summary_data(runs, best), "runs": [run_data(run) for run in shown]}


def _best(opened: Experiment) -> Best | None:
    """best.json, one GET; None where there is none, as of trainings, and where it is damaged, which `best` reports."""
    from ray_darts.errors import CorruptObject, MissingObject

    try:
        return opened.best()
    except (CorruptObject, MissingObject):
        return None


def _watch(opened: Experiment, choose: Choose, as_json: bool) -> None:
    """Show the runs until all have ended or the user interrupts; as JSON, one line each time.

    A reading that takes long is followed by a pause as long.
    """
    from ray_darts.report.table import LiveTable

    read = opened.watch()
    with LiveTable(opened.name, quiet=as_json) as table:
        while True:
            began = time.monotonic()
            runs = read()
            shown = choose(runs)
            table.show(shown, runs)
            if as_json:
                typer.echo(json.dumps(_data(runs, _best(opened), shown), sort_keys=True, allow_nan=False))
            if all(run.has_ended for run in runs):
                return
            time.sleep(max(WATCH_EVERY_S, time.monotonic() - began))
