"""The edges of a cell grouped by source, and sums of operations over them. Knows no operations and no space.

Suffixes: N samples, C channels, H W pixels, E edges, K operations, T targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_darts.genotype.layout import CellLayout


@dataclass(frozen=True)
class EdgeGroup:
    """Sources computed at the same time and the nodes that all of them feed; rows [start, stop) of the sorted edges."""

    sources: tuple[int, ...]
    nodes: tuple[int, ...]
    start: int
    stop: int


def edge_groups(layout: CellLayout) -> tuple[EdgeGroup, ...]:
    """One group for all inputs, then one for each node but the last: after group i, node i is complete."""
    groups: list[EdgeGroup] = []
    start = 0
    for node in range(layout.num_nodes):
        sources = tuple(range(layout.num_inputs)) if node == 0 else (layout.num_inputs + node - 1,)
        nodes = tuple(range(node, layout.num_nodes))
        groups.append(EdgeGroup(sources, nodes, start, start + len(sources) * len(nodes)))
        start = groups[-1].stop
    return tuple(groups)


def rows_by_source(layout: CellLayout) -> list[int]:
    """The layout's row of each edge, edges sorted by source, then target."""
    edges = layout.edges
    return sorted(range(len(edges)), key=lambda row: edges[row])


def sort_rows(weights_EK: Tensor, rows: Sequence[int]) -> Tensor:
    """The rows of `weights_EK` in the order `rows`."""
    unbound = weights_EK.unbind()
    return torch.stack([unbound[row] for row in rows])


def add_up(terms: Sequence[Tensor]) -> Tensor:
    """Sum tensors of equal shape, without an allocation per term."""
    if len(terms) == 1:
        return terms[0]
    total = terms[0] + terms[1]
    for term in terms[2:]:
        total.add_(term)
    return total


def mix(plain: list[Tensor], weights: Tensor, num_targets: int) -> tuple[Tensor, ...]:
    """Weighted sums of `plain` (ordered by operation, then source) for each target, as one product.

    `weights`: [operations, sources * T], a source's targets together.
    """
    stacked = torch.stack([tensor.permute(0, 2, 3, 1) for tensor in plain])
    table = weights.reshape(len(plain), num_targets).t()
    mixed = torch.mm(table, stacked.reshape(len(plain), -1)).view(num_targets, *stacked.shape[1:])
    return mixed.permute(0, 1, 4, 2, 3).unbind()
