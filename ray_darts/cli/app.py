"""The commands of `ray-darts`, in the order in which `--help` lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_darts import __version__
from ray_darts.cli.best import best
from ray_darts.cli.card import card
from ray_darts.cli.compare import compare
from ray_darts.cli.data import data
from ray_darts.cli.doctor import doctor
from ray_darts.cli.exits import with_exit_codes
from ray_darts.cli.export import export
from ray_darts.cli.gc import gc
from ray_darts.cli.inspect import inspect
from ray_darts.cli.presets import presets
from ray_darts.cli.report import report
from ray_darts.cli.search import search
from ray_darts.cli.show import show
from ray_darts.cli.status import status
from ray_darts.cli.submit import submit
from ray_darts.cli.sync import sync
from ray_darts.cli.trace import trace
from ray_darts.cli.train import train
from ray_darts.cli.verify import verify

app = typer.Typer(
    name="ray-darts",
    help="Distributed differentiable architecture search (DARTS) on Ray.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ray-darts {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Distributed differentiable architecture search (DARTS) on Ray."""


for _command in (
    search,
    train,
    submit,
    status,
    best,
    report,
    sync,
    compare,
    inspect,
    export,
    card,
    trace,
    show,
    verify,
    gc,
    presets,
    doctor,
):
    app.command()(with_exit_codes(_command))
app.add_typer(data, name="data")
