"""`ray-darts data check`: reads all data of a search once, and says what is in them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from ray_darts.cli.exits import with_exit_codes
from ray_darts.cli.options import ConfigFile, Json, Overrides, Preset
from ray_darts.cli.output import report_line, show_result
from ray_darts.exit_codes import USAGE

if TYPE_CHECKING:
    from ray_darts.config import SearchConfig
    from ray_darts.protocols.dataset import Advance, DataReport

data = typer.Typer(help="Look at the data of a search.", no_args_is_help=True, rich_markup_mode=None)


def check(
    preset: Preset = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Read all data once, on all cores, and print one table.

    Classes, sizes, modes, copies, samples that cannot be used, and what a search would take. Reads no test set, writes
    nothing. Exit 2 where a search would refuse the data.
    """
    from ray_darts.arguments import read_config
    from ray_darts.cli.request import config_source
    from ray_darts.orchestration.data_access import check_data, with_absolute_path

    settings = with_absolute_path(read_config(config_source(preset, config), overrides or ()))
    with _progress() as advance:
        report = check_data(settings, advance)
    figures = {**report.figures, "problems": report.num_problems, "first_problems": list(report.problems)}
    half = report.figures.get("weight_half")
    steps = None if not isinstance(half, int) else half // settings.search.batch_size
    if steps is not None:
        figures["steps_per_epoch"] = steps
    show_result(_text(report, settings, steps), figures, as_json)
    if report.is_refused:
        report_line(f"a search refuses these data: {report.problems[0]}")
        raise typer.Exit(USAGE)
    if steps == 0:
        batch = settings.search.batch_size
        report_line(f"a search refuses these data: the weight half has {half} samples, a batch {batch}")
        raise typer.Exit(USAGE)
    if report.num_problems:
        report_line(f"a search leaves {report.num_problems} out (data.on_error)")


def _text(report: DataReport, settings: SearchConfig, steps: int | None) -> str:
    lines = [f"{name:<14}{text}" for name, text in report.rows]
    if steps is not None:
        search = settings.search
        lines.append(f"{'a search':<14}{search.epochs} epochs of {steps} steps of {search.batch_size} samples")
    if report.num_problems:
        lines.append(f"{'problems':<14}{report.num_problems}, first:")
        lines += [f"  {problem}" for problem in report.problems]
    else:
        lines.append(f"{'problems':<14}none")
    return "\n".join(lines)


@contextmanager
def _progress() -> Iterator[Advance]:
    """A bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


data.command()(with_exit_codes(check))
