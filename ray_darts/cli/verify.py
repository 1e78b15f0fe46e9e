"""`ray-darts verify`: reads every object that an experiment refers to and reports what is not as it was written."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ExperimentName, Json, Plugins, Store, StoreOverrides
from ray_darts.cli.output import show_result
from ray_darts.exit_codes import FAILED
from ray_darts.report.amounts import bytes_text

if TYPE_CHECKING:
    from ray_darts.artifacts.verify import VerifyReport


def verify(
    experiment: ExperimentName,
    store: Store = DEFAULT_STORE,
    repair: Annotated[
        bool, typer.Option("--repair", help="Write publications, best.json and status.json again from the log.")
    ] = False,
    overrides: StoreOverrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Read every object of an experiment again and check it.

    Checks hashes, that each step from 1 to the last is there once, that genotypes are those decoded from the traces,
    best.json and status.json. Exit 1 when something is wrong.
    """
    from ray_darts.artifacts.verify import verify_experiment
    from ray_darts.cli.stores import open_named_experiment
    from ray_darts.protocols.registry import load_plugins

    load_plugins(plugins or ())
    opened = open_named_experiment(store, experiment, overrides)
    report = verify_experiment(opened.store, experiment, repair)
    show_result(_text(report), {**asdict(report), "clean": report.clean}, as_json)
    if not report.clean:
        raise typer.Exit(FAILED)


def _text(report: VerifyReport) -> str:
    lines = [
        f"{run.run:<24}{run.state:<12}{run.step:>8} steps {run.records:>6} records {bytes_text(run.num_bytes):>10}"
        for run in report.runs
    ]
    lines += [
        f"{'repaired' if problem.repaired else 'WRONG   '} {problem.key} {problem.detail}"
        for problem in report.problems
    ]
    verdict = "all as written" if report.clean else "not as written; see the lines marked WRONG"
    return "\n".join([*lines, f"{report.experiment}: {verdict}"])
