"""The edges of a cell grouped by source, and sums of operations over them. Knows no operations and no space.

Suffixes: N samples, C channels, H W pixels, E edges, K operations, T targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.data.batch import Draws
from ray_darts.genotype.genotype import NONE
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.protocols.method import AUXILIARY_SKIP, EDGES, SKIP_DROPOUT


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


class SourceOrder(nn.Module):
    """`rows_by_source` of each cell, kept where the supernet is: a pass copies nothing to the device."""

    def __init__(self, layout: SpaceLayout) -> None:
        super().__init__()
        self._names = [cell.name for cell in layout.cells]
        for number, cell in enumerate(layout.cells):
            self.register_buffer(f"rows_{number}", torch.tensor(rows_by_source(cell)), persistent=False)

    @property
    def rows(self) -> dict[str, Tensor]:
        """{cell: int64 [E]}."""
        return {name: self.get_buffer(f"rows_{number}") for number, name in enumerate(self._names)}


@dataclass(frozen=True)
class CellMixture:
    """The mixture of one kind of cell in one pass; edges are sorted by source.

    `operations`: [E, K], times the edge's weight; `edges`: [E], None where every edge has the weight 1; `auxiliary`:
    [E], the weights of auxiliary skip connections, or None; `active`: per edge the columns whose weight is not 0, which
    alone are computed, or None for all. `draws`: the random numbers of the batch, for operations that draw.
    `skip_dropout`: the rate at which elements of skip connections at stride 1 are dropped, a scalar, or None.
    """

    operations: Tensor
    edges: Tensor | None
    auxiliary: Tensor | None
    active: tuple[tuple[int, ...], ...] | None
    draws: Draws | None = None
    skip_dropout: Tensor | None = None

    def drop(self, state_NCHW: Tensor, name: str) -> Tensor:
        """A skip connection of the state: elements are 0 with the probability `skip_dropout`, the others larger."""
        if self.skip_dropout is None:
            return state_NCHW
        assert self.draws is not None, "a pass over a batch has draws"
        drawn = self.draws.uniform(f"skip_dropout.{name}", state_NCHW.shape, batch_dim=0, like=state_NCHW)
        return state_NCHW * (drawn >= self.skip_dropout) / (1 - self.skip_dropout)


def cell_mixtures(
    layout: SpaceLayout,
    mixing: Mapping[str, Tensor],
    order: Mapping[str, Tensor],
    *,
    skips_zeros: bool,
    draws: Draws | None = None,
) -> dict[str, Iterator[CellMixture]]:
    """{cell: the mixtures of its kind of cells, layer by layer}: one and the same for all, or a table for each.

    `order`: of a `SourceOrder`.
    `skips_zeros`: the host reads once which weights are 0.
    """
    edges: dict[str, Tensor] = {}
    tables: dict[str, list[Tensor]] = {}
    for cell in layout.cells:
        rows, given = order[cell.name], mixing[cell.name]
        unsorted = given.unbind() if given.dim() == 3 else [given]
        tables[cell.name] = [table.index_select(0, rows) for table in unsorted]
        if EDGES + cell.name in mixing:
            edges[cell.name] = mixing[EDGES + cell.name].index_select(0, rows)
            tables[cell.name] = [table * edges[cell.name].unsqueeze(1) for table in tables[cell.name]]
    active = _active(tables) if skips_zeros else {}
    found: dict[str, Iterator[CellMixture]] = {}
    for cell in layout.cells:
        name, auxiliary = cell.name, mixing.get(AUXILIARY_SKIP)
        own = edges.get(name)
        if auxiliary is not None:
            auxiliary = auxiliary.expand(len(cell.edges)) if own is None else auxiliary * own
        choices = _active_choices(cell) if cell.choices is not None else None
        read = active.get(name, [choices] * len(tables[name]))
        mixtures = [
            CellMixture(table, own, auxiliary, columns, draws, mixing.get(SKIP_DROPOUT))
            for table, columns in zip(tables[name], read, strict=True)
        ]
        found[name] = iter(mixtures) if mixing[name].dim() == 3 else repeat(mixtures[0])
    return found


def _active_choices(cell: CellLayout) -> tuple[tuple[int, ...], ...]:
    """Per edge the columns of the operations that it has, none excepted."""
    assert cell.allowed is not None
    names = [name != NONE for name in cell.operations]
    columns = [tuple(k for k, has in enumerate(row) if has and names[k]) for row in cell.allowed]
    return tuple(columns[row] for row in rows_by_source(cell))


def _active(tables: Mapping[str, Sequence[Tensor]]) -> dict[str, list[tuple[tuple[int, ...], ...] | None]]:
    """{cell: per table, per edge the columns whose weight is not 0}, read from the device once."""
    flags = torch.cat([table.detach().flatten() for each in tables.values() for table in each]).ne(0)
    host: list[bool] = _in_turn(tables) if flags.is_meta else flags.tolist()
    place = 0
    active: dict[str, list[tuple[tuple[int, ...], ...] | None]] = {name: [] for name in tables}
    for name, each in tables.items():
        for table in each:
            height, width = table.shape
            rows = [host[first : first + width] for first in range(place, place + height * width, width)]
            active[name].append(tuple(tuple(column for column, flag in enumerate(row) if flag) for row in rows))
            place += height * width
    return active


def _in_turn(tables: Mapping[str, Sequence[Tensor]]) -> list[bool]:
    """One operation per edge, each in its turn: what is counted on the meta device, which has no values."""
    return [
        column == row % table.shape[1]
        for each in tables.values()
        for table in each
        for row in range(table.shape[0])
        for column in range(table.shape[1])
    ]


def bypass(
    states: Sequence[Tensor], edges: Tensor | None, group: EdgeGroup, *, halved: bool
) -> list[Tensor] | tuple[Tensor, ...]:
    """For each of the group's nodes the weighted sum of `states` (the group's sources), which no operation changes.

    `edges`: [E] or None for the weight 1. `halved`: 2x2 max pooled, height and width rounded up (a departure from
    PC-DARTS, which has no odd maps).
    """
    if halved:
        states = [F.max_pool2d(state, 2, 2, ceil_mode=True) for state in states]
    if edges is None:
        return [add_up(states)] * len(group.nodes)
    return mix(list(states), edges[group.start : group.stop], len(group.nodes))


def shuffle(states_NCHW: Tensor, parts: int) -> Tensor:
    """Interleave `parts` blocks of channels: channel c is channel (c % parts) * C / parts + c // parts of the input."""
    count, channels, height, width = states_NCHW.shape
    blocks = states_NCHW.permute(0, 2, 3, 1).reshape(count, height, width, parts, channels // parts)
    return blocks.transpose(3, 4).reshape(count, height, width, channels).permute(0, 3, 1, 2)


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
