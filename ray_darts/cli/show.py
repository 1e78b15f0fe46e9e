"""`ray-darts show`: a genotype as text and as a drawing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ray_darts.cli.options import Figures, Json, Plugins
from ray_darts.cli.output import report_line, show_result
from ray_darts.errors import ConfigError
from ray_darts.messages import shown_value
from ray_darts.output_files import STANDARD_OUTPUT, write_file


def show(
    genotype: Annotated[
        str,
        typer.Argument(metavar="GENOTYPE", help="A file (JSON or the text form of a space), or a published name."),
    ],
    space: Annotated[
        str | None,
        typer.Option("--space", metavar="NAME", help="The space, where several have a cell of one published name."),
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", metavar="NAME", help="Take this preset's space.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Also draw the cells, as .svg, .png or .pdf.")
    ] = None,
    figures: Figures = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Show the cells of a genotype as text; with --output draw them."""
    from ray_darts.api import read_genotype
    from ray_darts.protocols.registry import load_plugins
    from ray_darts.report.cells import cells_svg, cells_text
    from ray_darts.report.drawings import check_suffix, drawing

    if output is not None and output != STANDARD_OUTPUT:
        check_suffix(output)
    if as_json and output == STANDARD_OUTPUT:
        raise ConfigError("--output - beside --json: both would be written to standard output")
    load_plugins(plugins or ())
    found = read_genotype(_source(genotype), space=_space(space, preset))
    if output is not None:
        write_file(output, drawing(cells_svg(found), output))
        if output == STANDARD_OUTPUT:
            return
        report_line(f"drawing in {output}")
    text, data = cells_text(found), found.to_data()
    if figures is not None:
        from ray_darts.architectures import Architecture
        from ray_darts.cli.figures import figures_for_preset

        more, data["network"] = figures_for_preset(figures, Architecture(found, genotype))
        text = f"{text}\n{more}"
    show_result(text, data, as_json)


def _source(word: str) -> str | Path:
    """A file, or else a published name. Raises: ConfigError."""
    from ray_darts.spaces.genotypes import published_names

    if os.path.isfile(word):
        return Path(word)
    known = published_names()
    if word not in known:
        raise ConfigError(f"{shown_value(word)} is neither a file nor a published name ({', '.join(known)})")
    return word


def _space(space: str | None, preset: str | None) -> str | None:
    from ray_darts.config import load_config
    from ray_darts.protocols.registry import names

    if preset is not None and space is None:
        return load_config(preset).space.kind
    if preset is not None:
        raise ConfigError("give --space or --preset, not both")
    if space is not None and space not in names("space"):
        raise ConfigError(f"--space {space!r}: wanted {' or '.join(names('space'))}")
    return space
