"""Options that several commands share, so that they have the same names and help everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ray_darts.searches import DEFAULT_STORE as DEFAULT_STORE

ExperimentName = Annotated[str, typer.Argument(metavar="EXP", help="Name of the experiment.", show_default=False)]
Store = Annotated[
    str, typer.Option("--store", metavar="URI", help="Where the results are: a folder or s3://bucket/prefix.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set one field, such as search.epochs=3; may be repeated."),
]
StoreOverrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="store.KEY=VALUE", help="How to reach the store, such as store.region=eu-west-1."),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="MODULE",
        help="Import a module that registers the space, method or operations in question; may be repeated.",
    ),
]
Figures = Annotated[
    str | None,
    typer.Option(
        "--figures", metavar="PRESET", help="Also print the size and cost of the network of this training preset."
    ),
]
Preset = Annotated[str | None, typer.Option("--preset", metavar="NAME", help="A preset (see `ray-darts presets`).")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="A TOML file instead of a preset.")]
Name = Annotated[
    str | None, typer.Option("--name", metavar="EXP", help="Name of the experiment; absent: preset and digest.")
]
Workers = Annotated[
    str | None, typer.Option("--workers", metavar="N", help="Workers per run, or MIN:MAX for elastic ones.")
]
AllowWorldSizeChange = Annotated[
    bool,
    typer.Option("--allow-world-size-change", help="Continue with another number of workers; results will differ."),
]
Address = Annotated[
    str | None, typer.Option("--address", metavar="RAY", help="Address of a Ray cluster; absent: this machine.")
]
MaxHours = Annotated[
    float | None, typer.Option("--max-hours", help="Budget of the experiment: hours in which commands work on it.")
]
MaxWorkerHours = Annotated[
    float | None,
    typer.Option("--max-worker-hours", help="Budget of the experiment: hours times workers, over all commands."),
]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", help="Budget of the experiment, in the currency of operation.prices."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr: warnings and the result only.")]
OnEnd = Annotated[
    str | None,
    typer.Option("--on-end", metavar="URL", help="Post one JSON to this webhook when the command ends, well or not."),
]
Output = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write to this file instead of stdout.")]
