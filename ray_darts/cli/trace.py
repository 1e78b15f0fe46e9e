"""`ray-darts trace`: every alpha after every step, of one run or of all, finished or not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ExperimentName, Json, Plugins, Store, StoreOverrides
from ray_darts.cli.output import report_line, show_result

if TYPE_CHECKING:
    from ray_darts.artifacts.export import History


def trace(
    experiment: ExperimentName,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run.")] = None,
    store: Store = DEFAULT_STORE,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write the rows to this .parquet or .csv file.")
    ] = None,
    overrides: StoreOverrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Check and summarise the alpha histories, or export them."""
    from ray_darts.artifacts.export import export_traces
    from ray_darts.cli.stores import open_named_experiment
    from ray_darts.protocols.registry import load_plugins

    load_plugins(plugins or ())
    opened = open_named_experiment(store, experiment, overrides)
    histories = export_traces(opened.store, experiment, run, output)
    if output is not None:
        report_line(f"{sum(history.rows for history in histories):,} rows in {output}")
    warnings = [f"{history.run}: warning: {history.warning}" for history in histories if history.warning]
    text = "\n".join([*map(_line, histories), *warnings]) or "no run has committed a step yet"
    show_result(text, [asdict(history) for history in histories], as_json)


def _line(history: History) -> str:
    moved = ", ".join(
        f"{cell} {entropy:.3f} -> {history.last_entropy[cell]:.3f}" for cell, entropy in history.first_entropy.items()
    )
    return f"{history.run:<24}{history.steps:>8,} steps {history.rows:>12,} rows   entropy {moved} nats"
