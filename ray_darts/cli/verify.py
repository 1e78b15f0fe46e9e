"""`ray-darts verify`: read everything an experiment refers to again, and say what is not as it was written."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.exits import FAILED
from ray_darts.cli.options import DEFAULT_STORE, Experiment, Json, Store, StoreOverrides
from ray_darts.cli.output import show_result
from ray_darts.report.amounts import bytes_text

if TYPE_CHECKING:
    from ray_darts.artifacts.verify import VerifyReport


def verify(
    experiment: Experiment,
    store: Store = DEFAULT_STORE,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make publications and best.json anew from the log.")
    ] = False,
    overrides: StoreOverrides = None,
    as_json: Json = False,
) -> None:
    """Read everything again and check it.

    Exit 1 unless all is as it was written:
    hashes, steps 1 to the last once each, genotypes equal to those decoded from the traces, the best pointer.
    """
    from ray_darts.artifacts.verify import verify_experiment
    from ray_darts.cli.stores import check_experiment, open_named_store

    opened = open_named_store(store, overrides)
    check_experiment(opened, experiment)
    report = verify_experiment(opened, experiment, repair)
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
