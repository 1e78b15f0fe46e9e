"""`ray-darts export`: a model to deploy from a finished training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, Json, Plugins, Store, StoreOverrides
from ray_darts.cli.output import report_line, show_result

if TYPE_CHECKING:
    from pydantic import JsonValue


def export(
    training: Annotated[
        str, typer.Argument(metavar="TRAINING", help="Name of an experiment of trainings.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", metavar="FILE.pt2", help="For torch.export.load; or FILE.onnx, which needs onnxscript."
        ),
    ],
    store: Store = DEFAULT_STORE,
    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", help="A finished run; default the one with the best metric.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="last|best", help="Default those that were tested.")
    ] = None,
    overrides: StoreOverrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write a trained network as a model that runs without ray-darts.

    The file says itself what goes in and comes out: its ray_darts.json is what --json prints.
    """
    from ray_darts.cli.stores import open_named_experiment
    from ray_darts.deployment import check_output, export_from
    from ray_darts.protocols.registry import load_plugins

    check_output(output, weights)
    load_plugins(plugins or ())
    experiment = open_named_experiment(store, training, overrides)
    exported = export_from(experiment.store, experiment.name, output, run, weights)
    report_line(f"model in {output}")
    show_result(about_text(exported.about), dict(exported.about), as_json)


def about_text(about: Mapping[str, JsonValue]) -> str:
    """Three lines: which weights, what goes in, what comes out."""
    lines = [
        f"{about['run']}: {about['weights']} weights, after epoch {about['epoch']}; {about['parameters']} parameters, "
        f"{about['multiply_adds']} multiply-adds a sample"
    ]
    for side in ("inputs", "outputs"):
        tensors = about[side]
        assert isinstance(tensors, dict)
        lines.append(f"{side}: {'; '.join(_tensor_text(name, tensor) for name, tensor in tensors.items())}")
    return "\n".join(lines)


def _tensor_text(name: str, tensor: JsonValue) -> str:
    assert isinstance(tensor, dict)
    assert isinstance(tensor["shape"], list)
    shape = ", ".join(str(size) for size in tensor["shape"])
    return f"{name} {tensor['dtype']} [{shape}], {tensor['means']}"
