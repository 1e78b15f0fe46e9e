"""A genotype: the operations and source states of each node of each cell, and its JSON form.

Every `Genotype` object is well formed; `check` compares its cells and operations with a space's layout. A genotype is
data: operation names are compared, never imported. Knows no space, no tensors and no files.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ray_darts.errors import GenotypeError
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.messages import shown_name, shown_value

SCHEMA_VERSION = 1
MAX_TEXT_BYTES = 64 * 1024
"""Longer texts are rejected without parsing; a cell of 24 nodes takes 2 KiB."""

MAX_SPACE_CHARACTERS = 100
MAX_INPUTS, MAX_NODES = 64, 256
"""Of a cell; built-in spaces have at most 2 inputs and 24 nodes."""

NONE = "none"
"""The operation whose output is zero."""


class Connection(NamedTuple):
    """`operation` applied to state `source`; a node is the sum of its connections."""

    operation: str
    source: int


@dataclass(frozen=True)
class CellGenotype:
    """One kind of cell: the connections of each node, and the states that its output joins.

    States 0..num_inputs-1 are the cell's inputs, node i is state num_inputs+i. Connections are sorted, strongest first.
    """

    name: str
    num_inputs: int
    nodes: tuple[tuple[Connection, ...], ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Genotype:
    """The cells of one architecture. Raises: GenotypeError when a cell is not well formed."""

    space: str
    cells: tuple[CellGenotype, ...]

    def __post_init__(self) -> None:
        if not self.cells:
            raise GenotypeError(f"a genotype of space {self.space!r} without a cell")
        names = [cell.name for cell in self.cells]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise GenotypeError(f"cell {repeated[0]!r} stands twice")
        for cell in self.cells:
            _check_form(cell)

    def check(self, layout: SpaceLayout) -> None:
        """Raise GenotypeError unless this is a genotype of `layout`, naming cell, node and connection."""
        if self.space != layout.space:
            raise GenotypeError(f"a genotype of space {self.space!r} where one of {layout.space!r} is wanted")
        seen, wanted = [cell.name for cell in self.cells], [cell.name for cell in layout.cells]
        if seen != wanted:
            raise GenotypeError(f"cells {seen}: the {layout.space} space has {wanted}, in this order")
        for cell, cell_layout in zip(self.cells, layout.cells, strict=True):
            _check_cell(cell, cell_layout, layout.may_keep_fewer)

    def cell(self, name: str) -> CellGenotype:
        """Return the cell called `name`. Raises: KeyError."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise KeyError(name)

    def count(self, operations: Collection[str]) -> dict[str, int]:
        """The number of connections of each cell that use one of `operations`."""
        return {
            cell.name: sum(connection.operation in operations for node in cell.nodes for connection in node)
            for cell in self.cells
        }

    def to_data(self) -> dict[str, object]:
        """Plain JSON-able data, schema version included."""
        return {
            "schema_version": SCHEMA_VERSION,
            "space": self.space,
            "cells": [
                {
                    "name": cell.name,
                    "num_inputs": cell.num_inputs,
                    "nodes": [[connection._asdict() for connection in node] for node in cell.nodes],
                    "outputs": list(cell.outputs),
                }
                for cell in self.cells
            ],
        }

    def to_json(self) -> str:
        """One line of JSON with sorted keys: equal genotypes give equal text."""
        return json.dumps(self.to_data(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_data(cls, data: object, layout: SpaceLayout | None = None) -> Genotype:
        """Read `to_data`'s form; with a `layout`, its nodes and operations are checked too. Raises: GenotypeError."""
        fields = _mapping(data, "genotype", ("schema_version", "space", "cells"))
        version = _integer(fields["schema_version"], "schema_version")
        if version < 1:
            raise GenotypeError(f"schema_version {version}: there is no such version, the first one is 1")
        if version > SCHEMA_VERSION:
            raise GenotypeError(
                f"schema_version {version}: this release reads 1 to {SCHEMA_VERSION}; install a newer one"
            )
        cells = [_read_cell(cell, f"cells[{index}]") for index, cell in enumerate(_list(fields["cells"], "cells"))]
        space = _string(fields["space"], "space")
        if not space.isprintable() or not 1 <= len(space) <= MAX_SPACE_CHARACTERS:
            raise GenotypeError(f"space {shown_value(space)}: the name of a space is wanted")
        genotype = cls(space, tuple(cells))
        if layout is not None:
            genotype.check(layout)
        return genotype

    @classmethod
    def from_json(cls, text: str, layout: SpaceLayout | None = None) -> Genotype:
        """Read `to_json`'s form: no unknown or repeated key, no NaN, at most 64 KiB. Raises: GenotypeError."""
        check_text_size(text)
        try:
            data = json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise GenotypeError(f"not the JSON of a genotype: {error}") from error
        return cls.from_data(data, layout)


def check_text_size(text: str) -> None:
    """Raise GenotypeError when `text` is too long to be a genotype."""
    size = len(text.encode("utf-8", errors="replace"))
    if size > MAX_TEXT_BYTES:
        raise GenotypeError(f"{size:,} bytes: a genotype's text has at most {MAX_TEXT_BYTES:,}")


def _check_form(cell: CellGenotype) -> None:
    """Check the rules of all spaces: a node's sources exist and differ, outputs are states of the cell."""
    if cell.num_inputs < 1 or not cell.nodes:
        raise GenotypeError(
            f"{cell.name} cell: {cell.num_inputs} inputs and {len(cell.nodes)} nodes; wanted is 1 of each"
        )
    if cell.num_inputs > MAX_INPUTS or len(cell.nodes) > MAX_NODES:
        raise GenotypeError(
            f"{cell.name} cell: {shown_value(cell.num_inputs)} inputs and {len(cell.nodes)} nodes; at most are "
            f"{MAX_INPUTS} and {MAX_NODES}"
        )
    for index, node in enumerate(cell.nodes):
        where = f"{cell.name} cell, node {index}"
        num_sources = cell.num_inputs + index
        for position, (_, source) in enumerate(node):
            if not 0 <= source < num_sources:
                raise GenotypeError(f"{where}, input {position}: source {source} is out of range 0..{num_sources - 1}")
        sources = [source for _, source in node]
        repeated = {source for source in sources if sources.count(source) > 1}
        if repeated:
            raise GenotypeError(f"{where}: source {min(repeated)} is repeated")
    num_states = cell.num_inputs + len(cell.nodes)
    if not cell.outputs or not set(cell.outputs) <= set(range(num_states)):
        raise GenotypeError(f"{cell.name} cell: outputs {list(cell.outputs)}, wanted are states of 0..{num_states - 1}")


def _check_cell(cell: CellGenotype, layout: CellLayout, may_keep_fewer: bool) -> None:
    if cell.num_inputs != layout.num_inputs:
        raise GenotypeError(f"{cell.name} cell: {cell.num_inputs} inputs where the space has {layout.num_inputs}")
    if len(cell.nodes) != layout.num_nodes:
        raise GenotypeError(f"{cell.name} cell: {len(cell.nodes)} nodes, wanted are {layout.num_nodes}")
    empty: set[int] = set()
    for index, node in enumerate(cell.nodes):
        where = f"{cell.name} cell, node {index}"
        kept = layout.kept_inputs(index)
        if len(node) > kept or (len(node) < kept and not may_keep_fewer):
            at_most = "at most " if may_keep_fewer else ""
            raise GenotypeError(f"{where}: {len(node)} inputs, wanted are {at_most}{kept}")
        if not node:
            empty.add(layout.num_inputs + index)
        unfed = empty & {source for _, source in node}
        if unfed:
            raise GenotypeError(f"{where}: source {min(unfed)} is a node without inputs")
        _check_operations(node, layout, index, where)
    wanted = tuple(state for state in layout.output_states if state not in empty)
    if cell.outputs != wanted:
        raise GenotypeError(f"{cell.name} cell: outputs {list(cell.outputs)}, wanted are the states {list(wanted)}")


def _check_operations(node: Sequence[Connection], layout: CellLayout, index: int, where: str) -> None:
    rows = {edge: row for row, edge in enumerate(layout.edges)}
    for position, (operation, source) in enumerate(node):
        place = f"{where}, input {position}"
        if operation == NONE and not layout.keeps_none:
            raise GenotypeError(f"{place}: {NONE!r} is no operation of a genotype")
        if operation not in layout.operations:
            known = ", ".join(name for name in layout.operations if layout.keeps_none or name != NONE)
            raise GenotypeError(f"{place}: unknown operation {operation!r}; known are {known}")
        if layout.choices is not None:
            choices = layout.choices[rows[source, layout.num_inputs + index]]  # type: ignore[index]
            if operation not in choices:
                raise GenotypeError(f"{place}: {operation!r} is not on this edge, which has {', '.join(choices)}")


def _read_cell(data: object, where: str) -> CellGenotype:
    fields = _mapping(data, where, ("name", "num_inputs", "nodes", "outputs"))
    nodes = []
    for index, node in enumerate(_list(fields["nodes"], f"{where}.nodes")):
        place = f"{where}.nodes[{index}]"
        nodes.append(tuple(_read_connection(item, f"{place}[{i}]") for i, item in enumerate(_list(node, place))))
    outputs = [
        _integer(item, f"{where}.outputs[{index}]")
        for index, item in enumerate(_list(fields["outputs"], f"{where}.outputs"))
    ]
    name, num_inputs = _string(fields["name"], f"{where}.name"), _integer(fields["num_inputs"], f"{where}.num_inputs")
    return CellGenotype(name, num_inputs, tuple(nodes), tuple(outputs))


def _read_connection(data: object, where: str) -> Connection:
    fields = _mapping(data, where, ("operation", "source"))
    return Connection(_string(fields["operation"], f"{where}.operation"), _integer(fields["source"], f"{where}.source"))


def _mapping(value: object, where: str, keys: tuple[str, ...]) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise GenotypeError(f"{where}: {_seen(value)} where an object with {', '.join(keys)} is wanted")
    missing, unknown = sorted(set(keys) - set(value)), sorted(map(shown_name, map(str, set(value) - set(keys))))
    if missing or unknown:
        found = [f"missing {', '.join(missing)}"] * bool(missing) + [f"unknown {', '.join(unknown)}"] * bool(unknown)
        raise GenotypeError(f"{where}: {'; '.join(found)}")
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise GenotypeError(f"{where}: {_seen(value)} where a list is wanted")
    return value


def _integer(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise GenotypeError(f"{where}: {_seen(value)} where an integer is wanted")
    return value


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise GenotypeError(f"{where}: {_seen(value)} where a text is wanted")
    return value


def _seen(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"key {name!r} is repeated")
    return dict(pairs)


def _no_constant(literal: str) -> object:
    raise ValueError(f"{literal} is no JSON number")
