"""`ray-darts presets`: the presets of the package, of searches and (as `training/NAME`) of trainings."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from ray_darts.cli.options import Json
from ray_darts.cli.output import show_result

_TRAINING = "training/"


def presets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Print this preset's TOML; of a training: training/NAME."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the presets of searches and of trainings, or print one to start your own --config from."""
    from ray_darts.config import (
        load_config,
        load_training_config,
        preset_names,
        preset_text,
        training_preset_names,
        training_preset_text,
    )

    if name is not None and name.startswith(_TRAINING):
        own = name.removeprefix(_TRAINING)
        show_result(training_preset_text(own), load_training_config(own).model_dump(mode="json"), as_json)
        return
    if name is not None:
        show_result(preset_text(name), load_config(name).model_dump(mode="json"), as_json)
        return
    found = {preset: _describe(preset_text(preset)) for preset in preset_names()}
    found |= {f"{_TRAINING}{preset}": _describe(training_preset_text(preset)) for preset in training_preset_names()}
    width = max(map(len, found))
    show_result("\n".join(f"{preset:<{width}}  {about}" for preset, about in found.items()), found, as_json)


def _describe(text: str) -> str:
    """A preset's first comment, up to its first full stop that a space follows, cut to 90 characters."""
    comment = " ".join(line.removeprefix("#").strip() for line in text.split("\n\n")[0].splitlines())
    return textwrap.shorten(comment.split(". ")[0].rstrip("."), 90, placeholder=" …")
