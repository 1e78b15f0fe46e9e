"""`ray-darts inspect`: size and cost of the network of an architecture, as a training would build it."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ConfigFile, Json, Overrides, Plugins, Store
from ray_darts.cli.output import show_result


def inspect(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="An experiment (its best), a genotype file, the URI of either, or a published name.",
            show_default=False,
        ),
    ],
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="A preset of a training (see `ray-darts presets`).")
    ] = None,
    config: ConfigFile = None,
    store: Store = DEFAULT_STORE,
    classes: Annotated[
        int | None,
        typer.Option("--classes", min=1, max=10_000_000, metavar="N", help="Classes of the data; of text, words."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=1, max=4096, metavar="N", help="Pixels on a side of the data's images."),
    ] = None,
    image_channels: Annotated[
        int | None,
        typer.Option("--image-channels", min=1, max=4096, metavar="N", help="Channels of the data's images."),
    ] = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Print parameters, multiply-adds, activations and depth of an architecture's network.

    Trains nothing, and reads no data unless a package brings them.
    """
    from ray_darts.architectures import check_fits, find_architecture
    from ray_darts.cli.figures import data_facts, figures_of
    from ray_darts.config import load_training_config
    from ray_darts.protocols.registry import load_plugins

    load_plugins(plugins or ())
    settings = load_training_config(preset, config, overrides or ())
    found = find_architecture(what, store, settings.store, settings.network.kind)
    check_fits(found, settings.network.kind)
    given = {"num_classes": classes, "image_size": image_size, "channels": image_channels}
    facts, known_by = data_facts(settings, found, {name: value for name, value in given.items() if value is not None})

    show_result(*figures_of(settings, found, facts, known_by), as_json)
