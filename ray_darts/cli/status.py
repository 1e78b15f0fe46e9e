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
    from ray_darts.artifacts.status import RunStatus

WATCH_EVERY_S = 5.0


def status(
    experiment: ExperimentName,
    store: Store = DEFAULT_STORE,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every 5 s until all runs have ended.")] = False,
    overrides: StoreOverrides = None,
    as_json: Json = False,
) -> None:
    """Show how far each run is and which command searches it."""
    from ray_darts.cli.stores import open_named_experiment
    from ray_darts.report.table import status_text

    opened = open_named_experiment(store, experiment, overrides)
    if watch:
        _watch(experiment, opened.status, as_json)
        return
    runs = opened.status()
    data = opened.data()
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    text = status_text(runs, width) + ("" if data is None else f"\n{data.line()}")
    show_result(text, [run_data(run) for run in runs], as_json)


def run_data(run: RunStatus) -> dict[str, object]:
    """One run's status as plain JSON-able data; times in seconds."""
    return {
        "run": run.run,
        "state": run.state,
        "step": run.step,
        "total_steps": run.total_steps,
        "epoch": run.epoch,
        "claims": run.claims,
        "age_s": run.age_s,
        "commit_seconds": run.commit_seconds,
        "latest": dict(run.latest),
        "owner": run.owner.model_dump(mode="json") if run.owner else None,
        "environment": run.environment.model_dump(mode="json") if run.environment else None,
        "warning": run.warning,
        "metric": run.metric.model_dump(mode="json") if run.metric else None,
        "failure": run.failure.model_dump(mode="json") if run.failure else None,
    }


def _watch(experiment: str, read: Callable[[], Sequence[RunStatus]], as_json: bool) -> None:
    """Show the runs until all have ended or the user interrupts; as JSON, one line each time."""
    from ray_darts.report.table import LiveTable

    with LiveTable(experiment, quiet=as_json) as table:
        while True:
            runs = read()
            table.show(runs)
            if as_json:
                typer.echo(json.dumps([run_data(run) for run in runs], sort_keys=True, allow_nan=False))
            if all(run.state in ("finished", "failed") for run in runs):
                return
            time.sleep(WATCH_EVERY_S)
