"""Reads and writes genotypes as JSON, in a space's text form, or by a published name. Imports no torch.

Names in a file are compared with the known names; at most they load an installed entry point, never another module.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from ray_darts.errors import ConfigError, GenotypeError, PluginError
from ray_darts.genotype.genotype import MAX_TEXT_BYTES, Genotype
from ray_darts.genotype.literal import is_literal, literal_fields
from ray_darts.input_files import read_start
from ray_darts.messages import shown_name
from ray_darts.protocols.registry import find_space, names
from ray_darts.protocols.space import CellWords, Space

logger = logging.getLogger("ray_darts.spaces")


def known_space(genotype: Genotype) -> type[Space] | None:
    """The space of a genotype, None where it is not installed or its package cannot be imported."""
    return _usable(genotype.space) if genotype.space in names("space") else None


def space_of(genotype: Genotype) -> type[Space]:
    """The space of a genotype.

    Raises: GenotypeError when it is not installed, saying how to install it; PluginError when it cannot be imported.
    """
    if genotype.space not in names("space"):
        raise GenotypeError(
            f"the genotype is of the space {genotype.space!r}, which is not installed here (known are "
            f"{', '.join(names('space'))}): install the package that brings it, or name its module in plugins"
        )
    return find_space(genotype.space)


def checked(genotype: Genotype) -> Genotype:
    """Check a genotype against its space's layout, if the space is installed; return it. Raises: GenotypeError."""
    space = known_space(genotype)
    layout = None if space is None else space.layout_of(genotype)
    if layout is None:
        return genotype
    try:
        genotype.check(layout)
    except GenotypeError as error:
        known = {name for cell in layout.cells for name in cell.operations}
        named = {operation for cell in genotype.cells for node in cell.nodes for operation, _ in node}
        hint = " (an operation of your own is known once its plugin is loaded: --plugin)" if named - known else ""
        raise GenotypeError(f"{error}{hint}") from error
    return genotype


def read_genotype(text: str) -> Genotype:
    """Read JSON or the text form of any installed space. Raises: GenotypeError naming the wrong place."""
    if text.lstrip().startswith(("{", "[")):
        return checked(Genotype.from_json(text))
    genotype = read_text_form(text)
    if genotype is not None:
        return checked(genotype)
    if is_literal(text):
        seen = ", ".join(literal_fields(text)) or "none"
        raise GenotypeError(f"fields {seen} of Genotype(...): no space here has these")
    raise GenotypeError(f"neither the JSON of a genotype nor the text form of a space: {text[:40]!r}")


def read_text_form(text: str) -> Genotype | None:
    """The genotype in the text form of an installed space, unchecked; None for any other text."""
    return next((found for space in _spaces() if (found := space.from_text(text)) is not None), None)


def read_genotype_file(path: Path) -> Genotype:
    """Read a file in either form. Raises: ConfigError when it cannot be read, GenotypeError."""
    try:
        return read_genotype(read_text_file(path))
    except GenotypeError as error:
        raise GenotypeError(f"{shown_name(path)}: {error}") from error


def read_text_file(path: Path) -> str:
    """The text of a file, cut after one more byte than a genotype may have. Raises: ConfigError."""
    try:
        content = read_start(path, MAX_TEXT_BYTES)  # one more byte, which reading a genotype refuses
        return content.decode("utf-8-sig", errors="ignore" if len(content) > MAX_TEXT_BYTES else "strict")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read {shown_name(path)}: {reason}") from error


def write_text(genotype: Genotype) -> str:
    """The text form of the genotype's space. Raises: GenotypeError when it has none or is not installed."""
    return space_of(genotype).to_text(genotype)


def published_names(space: str | None = None) -> list[str]:
    """Names of published cells, of one space or of all, sorted."""
    spaces = _spaces() if space is None else iter([find_space(space)])
    return sorted({name for each in spaces for name in each.published})


def published(name: str, space: str | None = None) -> Genotype:
    """The published cell `name` of `space`, or of the first space that has it. Raises: GenotypeError."""
    for each in _spaces() if space is None else iter([_named(space)]):
        if name in each.published:
            genotype = each.from_text(each.published[name])
            assert genotype is not None
            return checked(genotype)
    raise GenotypeError(f"no published genotype {name!r}; there are {', '.join(published_names(space))}")


def words_for(genotype: Genotype) -> CellWords:
    """The space's names for a drawing, or default names if the space is not installed."""
    space = known_space(genotype)
    if space is not None:
        return space.words
    most = max(cell.num_inputs for cell in genotype.cells)
    return CellWords(tuple(f"input {state}" for state in range(most)), "output", "output")


def _named(space: str) -> type[Space]:
    try:
        return find_space(space)
    except ConfigError as error:
        raise GenotypeError(str(error)) from error


def _spaces() -> Iterator[type[Space]]:
    return (space for space in map(_usable, names("space")) if space is not None)


def _usable(name: str) -> type[Space] | None:
    """The space called `name`; a package that cannot be imported must not stop commands that do without it."""
    try:
        return find_space(name)
    except PluginError as error:
        logger.warning("%s", error)
        return None
