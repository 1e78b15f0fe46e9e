"""The shape of a search space as plain data: cells, edges, operations, and the order of alphas.

Everything that reads or writes alphas (supernets, traces, discretising) takes its order from here.
Knows no tensors and no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Edge(NamedTuple):
    """A connection from state `source` to state `target`; inputs are states 0..num_inputs-1."""

    source: int
    target: int


@dataclass(frozen=True)
class CellLayout:
    """One kind of cell: `num_nodes` nodes after `num_inputs` inputs, each fed by every earlier state."""

    name: str
    num_inputs: int
    num_nodes: int
    operations: tuple[str, ...]
    inputs_per_node: int

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


@dataclass(frozen=True)
class SpaceLayout:
    """All cells of a space; `skip` is its identity operation, `parameter_free` all without weights (never `none`)."""

    space: str
    cells: tuple[CellLayout, ...]
    skip: str
    parameter_free: frozenset[str]

    def cell(self, name: str) -> CellLayout:
        """Return the cell called `name`. Raises: KeyError."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise KeyError(name)

    @property
    def num_alphas(self) -> int:
        """Length of the flat alpha vector: cells in order, each row-major [edge, operation]."""
        return sum(rows * columns for rows, columns in (cell.shape for cell in self.cells))

    def split(self, flat: Sequence[float]) -> dict[str, list[list[float]]]:
        """Turn a flat alpha vector into {cell: rows [edge][operation]}. Raises: ValueError on a wrong length."""
        if len(flat) != self.num_alphas:
            raise ValueError(f"{len(flat)} alphas where the {self.space} layout has {self.num_alphas}")
        alphas: dict[str, list[list[float]]] = {}
        start = 0
        for cell in self.cells:
            rows, columns = cell.shape
            alphas[cell.name] = [
                [float(value) for value in flat[start + row * columns : start + (row + 1) * columns]]
                for row in range(rows)
            ]
            start += rows * columns
        return alphas

    def join(self, alphas: Mapping[str, Sequence[Sequence[float]]]) -> list[float]:
        """The inverse of `split`."""
        return [float(value) for cell in self.cells for row in alphas[cell.name] for value in row]


CONVOLUTIONAL_OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
RECURRENT_OPERATIONS = ("none", "tanh", "relu", "sigmoid", "identity")


def convolutional_layout(nodes: int = 4, operations: tuple[str, ...] = CONVOLUTIONAL_OPERATIONS) -> SpaceLayout:
    """Normal and reduction cells of arXiv:1806.09055, section 3.1: two inputs, two strongest edges kept per node."""
    cells = tuple(CellLayout(name, 2, nodes, operations, 2) for name in ("normal", "reduction"))
    free = frozenset({"max_pool_3x3", "avg_pool_3x3", "skip_connect"}) & frozenset(operations)
    return SpaceLayout("convolutional", cells, "skip_connect", free)


def recurrent_layout(nodes: int = 8, operations: tuple[str, ...] = RECURRENT_OPERATIONS) -> SpaceLayout:
    """The recurrent cell of arXiv:1806.09055, section 3.2: state 0 is the gated input, one edge kept per node.

    Every candidate activation shares its node's weights, so only `identity` counts as free of parameters.
    """
    cell = CellLayout("recurrent", 1, nodes, operations, 1)
    return SpaceLayout("recurrent", (cell,), "identity", frozenset({"identity"}) & frozenset(operations))
