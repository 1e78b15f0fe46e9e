"""Settings of perturbation-based selection, and the order in which edges are decided (DARTS-PT, arXiv:2108.04392).

After the search, edge by edge in a random order: the operation whose removal costs the supernet most is kept, and the
supernet is tuned; then, node by node, the edges whose removal costs least are removed. Plain Python.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field, model_validator

from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.methods.random import below
from ray_darts.protocols.settings import Settings


class PerturbationSelection(Settings):
    """One decision in every kind of cell, then `tune_epochs` epochs; the learning rate of the weights follows half a
    cosine over the phase. The reference tunes NAS-Bench-201 at a constant 0.0025 instead."""

    tune_epochs: int = Field(5, ge=1)
    learning_rate: float = Field(0.0025, gt=0)
    learning_rate_min: float = Field(0.001, ge=0)

    @model_validator(mode="after")
    def _falls(self) -> PerturbationSelection:
        if self.learning_rate_min > self.learning_rate:
            raise ValueError(f"learning_rate_min {self.learning_rate_min} exceeds {self.learning_rate}")
        return self

    def epochs(self, layout: SpaceLayout) -> int:
        """Of the phase: a decision at the start of every `tune_epochs`-th epoch, the last in the last epoch."""
        return self.tune_epochs * (num_decisions(layout) - 1) + 1


class Decision(NamedTuple):
    """What is decided in one kind of cell: the operation of the edge of row `edge`, or the inputs of node `node`."""

    cell: str
    edge: int | None
    node: int | None


def num_decisions(layout: SpaceLayout) -> int:
    """Of the kind of cells with most."""
    return max(len(cell.edges) + len(_pruned_nodes(cell)) for cell in layout.cells)


def decisions(layout: SpaceLayout, seed: int, index: int) -> list[Decision]:
    """The decisions of one turn, one in each kind of cell that has any left: edges first, then nodes, both in an order
    that is a function of (cell, seed)."""
    found = []
    for cell in layout.cells:
        edges = _shuffled(list(range(len(cell.edges))), seed, f"{cell.name}.edges")
        nodes = _shuffled(_pruned_nodes(cell), seed, f"{cell.name}.nodes")
        if index < len(edges):
            found.append(Decision(cell.name, edges[index], None))
        elif index < len(edges) + len(nodes):
            found.append(Decision(cell.name, None, nodes[index - len(edges)]))
    return found


def _pruned_nodes(cell: CellLayout) -> list[int]:
    """The nodes with more edges than a genotype keeps."""
    return [node for node in range(cell.num_nodes) if cell.num_inputs + node > cell.kept_inputs(node)]


def _shuffled(items: list[int], seed: int, name: str) -> list[int]:
    """In a random order (Fisher and Yates)."""
    for last in range(len(items) - 1, 0, -1):
        other = below(last + 1, seed, "perturbation selection", name, last)
        items[last], items[other] = items[other], items[last]
    return items
