"""`ray-darts show`: a genotype as text and as a drawing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import Json
from ray_darts.cli.output import show_result, tell, write_file

if TYPE_CHECKING:
    from ray_darts.genotype.genotype import Genotype

SPACES = ("convolutional", "recurrent")


def show(
    genotype: Annotated[
        str, typer.Argument(metavar="GENOTYPE", help="A file (JSON or Genotype(...) text), or a published name.")
    ],
    space: Annotated[
        str | None, typer.Option("--space", help="convolutional or recurrent: which of two cells of one name.")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", metavar="NAME", help="Take this preset's space.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE.svg", help="Also write a drawing of the cells.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the cells of a genotype as text; with --output draw them."""
    from ray_darts.report.cells import cells_svg, cells_text

    found = find_genotype(genotype, _space(space, preset))
    if output is not None:
        write_file(output, cells_svg(found))
        tell(f"drawing in {output}")
    show_result(cells_text(found), found.to_data(), as_json)


def find_genotype(word: str, space: str | None) -> Genotype:
    """Read a genotype from a file in either form, or take a published one; absent, the space is the images'.

    Raises: GenotypeError, ConfigError.
    """
    from ray_darts.errors import ConfigError, GenotypeError
    from ray_darts.genotype.darts_text import from_darts
    from ray_darts.genotype.genotype import MAX_TEXT_BYTES, Genotype
    from ray_darts.spaces.genotypes import published, published_names

    if word in published_names():
        return published(word, space or SPACES[0])
    path = Path(word)
    if not path.is_file():
        raise ConfigError(f"{word!r} is neither a file nor a published name ({', '.join(published_names())})")
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_TEXT_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    found = Genotype.from_json(text) if text.lstrip().startswith(("{", "[")) else from_darts(text)
    if space is not None and found.space != space:
        raise GenotypeError(f"{path} holds a genotype of space {found.space!r}, not {space!r}")
    return found


def _space(space: str | None, preset: str | None) -> str | None:
    from ray_darts.config import load_config
    from ray_darts.errors import ConfigError

    if preset is not None and space is None:
        return load_config(preset).space.kind
    if preset is not None:
        raise ConfigError("give --space or --preset, not both")
    if space not in (None, *SPACES):
        raise ConfigError(f"--space {space!r}: wanted {' or '.join(SPACES)}")
    return space
