"""`ray-darts sync`: copies an experiment into TensorBoard, MLflow, W&B or CSV files, once or as it grows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ExperimentName, Json, Plugins, Store, StoreOverrides
from ray_darts.cli.output import report_line, show_result
from ray_darts.errors import ConfigError, StoreUnavailable
from ray_darts.messages import shown_message, shown_value

if TYPE_CHECKING:
    from ray_darts.sync.runs import Logger

LOGGERS = ("tensorboard", "mlflow", "wandb", "csv")


def sync(
    experiment: ExperimentName,
    to: Annotated[
        tuple[str, str],
        typer.Option(
            "--to",
            metavar="LOGGER WHERE",
            help="tensorboard DIR, mlflow URI, wandb PROJECT, or csv DIR.",
            show_default=False,
        ),
    ],
    store: Store = DEFAULT_STORE,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until all runs have ended.")] = False,
    every: Annotated[
        float, typer.Option("--every", min=1, max=86_400, metavar="SECONDS", help="How often --follow reads the store.")
    ] = 30.0,
    overrides: StoreOverrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Copy curves, hyperparameters, final metrics and cells into a logger; the same command again adds nothing twice.

    Each logger but csv needs the extra of its name. Reads the store alone.
    """
    from ray_darts.cli.stores import open_named_experiment
    from ray_darts.protocols.registry import load_plugins
    from ray_darts.sync.runs import logged_runs

    load_plugins(plugins or ())
    opened = open_named_experiment(store, experiment, overrides)
    logger = _logger(*to)
    points, num_runs = 0, 0
    while True:
        try:
            runs = list(logged_runs(opened.store, experiment))
        except StoreUnavailable as error:
            if not follow:
                raise
            report_line(f"warning: nothing new for now: {shown_message(str(error))}")
            time.sleep(every)
            continue
        new = sum(logger.add(run) for run in runs)
        logger.write()
        points, num_runs = points + new, len(runs)
        if not follow or (runs and all(run.has_ended for run in runs)):
            break
        if new:
            report_line(f"{new} epochs added")
        time.sleep(every)
    text = f"{to[0]}: {points} epochs of {num_runs} runs added to {to[1]}"
    show_result(text, {"logger": to[0], "where": to[1], "runs": num_runs, "epochs": points}, as_json)


def _logger(name: str, where: str) -> Logger:
    """The logger of this name. Raises: ConfigError."""
    if name not in LOGGERS:
        raise ConfigError(f"--to {shown_value(name)}: wanted {', '.join(LOGGERS)}")
    if not where.strip():
        raise ConfigError(f"--to {name}: where it lies is empty (an unset variable?)")
    if name == "tensorboard":
        from ray_darts.sync.tensorboard_files import TensorBoardFiles

        return TensorBoardFiles(Path(where))
    if name == "mlflow":
        from ray_darts.sync.mlflow_runs import MlflowRuns

        return MlflowRuns(where)
    if name == "wandb":
        from ray_darts.sync.wandb_runs import WandbRuns

        return WandbRuns(where, Path(os.environ.get("WANDB_DIR") or "."))
    from ray_darts.sync.csv_files import CsvFiles

    return CsvFiles(Path(where))
