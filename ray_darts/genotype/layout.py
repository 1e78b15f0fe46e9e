"""The shape of a search space as plain data: cells, edges, operations, and the order of architecture parameters.

Everything that reads or writes alphas (supernets, traces, decoding) uses this order. Knows no space, no tensors and
no files.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from ray_darts.errors import GenotypeError, NonFiniteAlphas

ALPHAS = "alphas"
"""The kind of parameter that weights operations; a method may have further kinds."""


class Edge(NamedTuple):
    """A connection from state `source` to state `target`; inputs are states 0..num_inputs-1."""

    source: int
    target: int


@dataclass(frozen=True)
class ParameterGroup:
    """Architecture parameters of one kind (`alphas`, `betas`) in one cell, [edges] or [edges, operations]."""

    kind: str
    cell: str
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """`normal` for alphas, which every method has, else `betas.normal`; unique in a run."""
        return self.cell if self.kind == ALPHAS else f"{self.kind}.{self.cell}"

    @property
    def size(self) -> int:
        """Numbers in the group."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class CellLayout:
    """One kind of cell: `num_nodes` nodes after `num_inputs` inputs, each fed by every earlier state.

    `inputs_per_node`: edges that a node of a genotype keeps, None for all of them. `keeps_none`: whether a kept edge
    may have the operation `none`. `outputs`: the states that the cell's output joins, None for all nodes. `choices`:
    the operations of each edge, in the order of `edges`, where not every edge has all of them.
    """

    name: str
    num_inputs: int
    num_nodes: int
    operations: tuple[str, ...]
    inputs_per_node: int | None
    keeps_none: bool = False
    outputs: tuple[int, ...] | None = None
    choices: tuple[tuple[str, ...], ...] | None = None

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, node by node, sources ascending: the row order of this cell's alphas."""
        first = self.num_inputs
        return tuple(
            Edge(source, target) for target in range(first, first + self.num_nodes) for source in range(target)
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(edges, operations): the shape of this cell's alphas."""
        return len(self.edges), len(self.operations)

    @property
    def operations_by_edge(self) -> tuple[tuple[str, ...], ...]:
        """The operations of each edge."""
        return self.choices or (self.operations,) * len(self.edges)

    @property
    def allowed(self) -> tuple[tuple[bool, ...], ...] | None:
        """Which operations each edge has, [edge][operation]; None where all have all."""
        if self.choices is None:
            return None
        return tuple(tuple(name in names for name in self.operations) for names in self.choices)

    @property
    def output_states(self) -> tuple[int, ...]:
        """The states that the cell's output joins (concatenates, averages, or is)."""
        if self.outputs is not None:
            return self.outputs
        return tuple(range(self.num_inputs, self.num_inputs + self.num_nodes))

    def kept_inputs(self, node: int) -> int:
        """The number of edges of node `node` of a genotype."""
        return self.num_inputs + node if self.inputs_per_node is None else self.inputs_per_node

    @property
    def num_kept(self) -> int:
        """The number of edges in a cell of a genotype."""
        return sum(self.kept_inputs(node) for node in range(self.num_nodes))


@dataclass(frozen=True)
class SpaceLayout:
    """All cells of a space; `skip` is its identity operation, `parameter_free` all without weights (never `none`).

    `may_keep_fewer`: a node of a genotype may have fewer edges than `kept_inputs`; one without is no output.
    """

    space: str
    cells: tuple[CellLayout, ...]
    skip: str
    parameter_free: frozenset[str]
    may_keep_fewer: bool = False

    def cell(self, name: str) -> CellLayout:
        """Return the cell called `name`. Raises: KeyError."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise KeyError(name)

    @property
    def has_weights(self) -> bool:
        """Whether some operation has weights: alphas can then trade what learns against what does not."""
        choices = {operation for cell in self.cells for operation in cell.operations}
        return bool(choices - self.parameter_free - {"none"})

    @property
    def alphas(self) -> tuple[ParameterGroup, ...]:
        """One group of alphas per cell, in the cells' order."""
        return tuple(ParameterGroup(ALPHAS, cell.name, cell.shape) for cell in self.cells)

    @property
    def num_alphas(self) -> int:
        """Length of the flat vector of a method that has only alphas."""
        return num_parameters(self.alphas)

    def rows(self, groups: Sequence[ParameterGroup], flat: Sequence[float]) -> dict[str, list[list[float]]]:
        """Cut a flat vector into {name of a group: rows}, rounded to float32 as traces store it; [edges] has one row.

        Raises: GenotypeError on a wrong length, NonFiniteAlphas naming cell and edge.
        """
        if len(flat) != num_parameters(groups):
            raise GenotypeError(
                f"{len(flat)} architecture parameters where the {self.space} layout has {num_parameters(groups)}"
            )
        rounded = _float32(flat)
        rows: dict[str, list[list[float]]] = {}
        start = 0
        for group in groups:
            own = rounded[start : start + group.size]
            for index, value in enumerate(own):
                if not math.isfinite(value):
                    self._refuse(flat[start + index], group, index)
            width = group.shape[-1]
            rows[group.name] = [own[first : first + width] for first in range(0, group.size, width)]
            start += group.size
        return rows

    def _refuse(self, value: float, group: ParameterGroup, index: int) -> NoReturn:
        cell = self.cell(group.cell)
        edge, column = divmod(index, group.shape[-1]) if len(group.shape) > 1 else (index, None)
        source, target = cell.edges[edge]
        operation = "" if column is None else f", {cell.operations[column]}"
        place = f"{cell.name} cell, edge {source} -> {target}{operation}"
        what = group.kind.removesuffix("s")
        raise NonFiniteAlphas(f"{what} is {float(value)} ({place}): non-finite alphas never become a genotype")


def _float32(values: Sequence[float]) -> list[float]:
    """Round to float32; values that are too large become infinite."""
    form = f"<{len(values)}f"
    try:
        return list(struct.unpack(form, struct.pack(form, *values)))
    except OverflowError:
        return [math.inf] if len(values) == 1 else [_float32([value])[0] for value in values]


def flatten(groups: Sequence[ParameterGroup], rows: Mapping[str, Iterable[Iterable[float]]]) -> list[float]:
    """The flat vector of {name of a group: rows}, the inverse of `SpaceLayout.rows`.

    Raises: GenotypeError naming the group that does not fit; TypeError or ValueError for what is no number.
    """
    names = [group.name for group in groups]
    if set(rows) != set(names):
        raise GenotypeError(f"architecture parameters of {sorted(rows)}; wanted are {names}")
    flat: list[float] = []
    for group in groups:
        table = [[float(value) for value in row] for row in rows[group.name]]
        height = group.size // group.shape[-1]
        if len(table) != height or any(len(row) != group.shape[-1] for row in table):
            shape = [len(table), sorted({len(row) for row in table})]
            raise GenotypeError(f"{group.name} has shape {shape}, wanted is {[height, group.shape[-1]]}")
        flat += [value for row in table for value in row]
    return flat


def num_parameters(groups: Sequence[ParameterGroup]) -> int:
    """Length of the flat vector of all groups: group by group, each row-major."""
    return sum(group.size for group in groups)
