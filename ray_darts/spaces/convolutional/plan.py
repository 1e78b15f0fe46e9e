"""Arranges the weights of a mixture for the grouped formulation, once in a pass for all cells that are alike.

Suffixes: C channels, S sources of a group, T its targets, E edges sorted by source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from ray_darts.genotype.layout import CellLayout
from ray_darts.protocols.method import SupernetOptions
from ray_darts.spaces.convolutional.operations import CONVOLUTIONS
from ray_darts.spaces.convolutional.space import SKIP
from ray_darts.spaces.layers import POOLS
from ray_darts.spaces.mixing import CellMixture, EdgeGroup, edge_groups


@dataclass(frozen=True)
class GroupedWeights:
    """The weights of a mixture in one pass, by group of edges.

    `gains`: of the batch norms of the group, as far as it has them, in this order: each stage of convolutions, the
    reduce, the auxiliary reduce. `kernels`: [T * C, P * S * C, 1, 1] for a 1x1 convolution that mixes the maps of P
    pools and skip connections of S sources into T targets; None if there are none.
    """

    gains: list[list[Tensor]]
    kernels: list[Tensor | None]


class MixtureRows(nn.Module):
    """Takes the weights of a mixture in the order in which cells of one kind and stride need them, in one call.

    `gains`: for each group and batch norm how many weights it has, one for each edge and operation. `runs`: groups next
    to each other that mix as many maps of pools and skip connections: (that number P * S, the T of each group).
    """

    places: Tensor
    one: Tensor

    def __init__(self, layout: CellLayout, options: SupernetOptions, *, reduction: bool) -> None:
        super().__init__()
        self._operations, self._num_edges = layout.operations, len(layout.edges)
        self._auxiliary_skip = options.auxiliary_skip
        self._has_own_skips = options.auxiliary_skip or options.skip_dropout
        groups = edge_groups(layout)
        halved = [reduction and group.start == 0 for group in groups]
        gains = [self._places_of_gains(group, half) for group, half in zip(groups, halved, strict=True)]
        mixed = [self._places_of_mixed(group, half) for group, half in zip(groups, halved, strict=True)]
        self.gains = [[len(places) for places in own] for own in gains]
        shapes = [
            (len(places) // len(group.nodes), len(group.nodes)) for places, group in zip(mixed, groups, strict=True)
        ]
        self.runs = [(maps, [count for _, count in run]) for maps, run in groupby(shapes, key=lambda shape: shape[0])]
        self._sizes = [sum(map(sum, self.gains)), *(maps * sum(targets) for maps, targets in self.runs)]
        places = [place for own in gains for norm in own for place in norm] + [place for own in mixed for place in own]
        self.register_buffer("places", torch.tensor(places, dtype=torch.int64), persistent=False)
        self.register_buffer("one", torch.ones(1), persistent=False)

    def forward(self, mixture: CellMixture) -> tuple[Tensor, ...]:
        """All gains by group; then the weights of pools and skip connections of each run."""
        pieces = [mixture.operations.flatten(), self.one]
        if self._has_own_skips:
            pieces.append(self._own_skips(mixture))
        if mixture.auxiliary is not None:
            pieces.append(mixture.auxiliary)
        return torch.split(torch.cat(pieces).index_select(0, self.places), self._sizes)

    def _own_skips(self, mixture: CellMixture) -> Tensor:
        """[E]: of the skip connections that are mixed with the pools; one that drops elements is added by itself."""
        skips = mixture.auxiliary
        if SKIP in self._operations and mixture.skip_dropout is None:
            column = mixture.operations.select(1, self._operations.index(SKIP))
            skips = column if skips is None else column + skips
        return self.one.new_zeros(self._num_edges) if skips is None else skips

    def _places_of_gains(self, group: EdgeGroup, half: bool) -> list[list[int]]:
        """For each batch norm; a convolution has its weight in its last stage, and 1 in the one before."""
        edges, one = range(group.start, group.stop), self._num_edges * len(self._operations)
        first = [name for name in self._operations if name in CONVOLUTIONS]
        second = [name for name in first if CONVOLUTIONS[name].repeats == 2]
        places = [
            [one if name in second else self._place(name, edge) for name in first for edge in edges],
            [self._place(name, edge) for name in second for edge in edges],
            [self._place(SKIP, edge) for edge in edges if half and SKIP in self._operations],
            [one + 1 + self._num_edges + edge for edge in edges if half and self._auxiliary_skip],
        ]
        return [own for own in places if own]

    def _places_of_mixed(self, group: EdgeGroup, half: bool) -> list[int]:
        """By target, operation and source."""
        edges, count = range(group.start, group.stop), len(group.nodes)
        columns = [[self._place(name, edge) for edge in edges] for name in self._operations if name in POOLS]
        if not half and self._has_own_skips:
            columns.append([self._num_edges * len(self._operations) + 1 + edge for edge in edges])
        elif not half and SKIP in self._operations:
            columns.append([self._place(SKIP, edge) for edge in edges])
        return [place for target in range(count) for column in columns for place in column[target::count]]

    def _place(self, name: str, edge: int) -> int:
        return edge * len(self._operations) + self._operations.index(name)


class GroupedPlan(nn.Module):
    """Spreads the rows of a mixture over the channels of cells that have one kind, stride and number of channels.

    `second_rows` [B * E * C]: where each depthwise kernel of a second stage, ordered by group, operation, edge and
    channel, is among kernels that are ordered by operation, edge and channel.
    """

    identity: Tensor
    second_rows: Tensor

    def __init__(self, layout: CellLayout, channels: int, rows: MixtureRows) -> None:
        super().__init__()
        self.rows, self._channels = rows, channels
        num_edges = len(layout.edges)
        repeated = [name for name in layout.operations if name in CONVOLUTIONS and CONVOLUTIONS[name].repeats == 2]
        blocks = [
            index * num_edges + edge
            for group in edge_groups(layout)
            for index in range(len(repeated))
            for edge in range(group.start, group.stop)
        ]
        second = torch.tensor(blocks, dtype=torch.int64).unsqueeze(1) * channels + torch.arange(channels)
        self.register_buffer("second_rows", second.flatten(), persistent=False)
        self.register_buffer("identity", torch.eye(channels).view(1, channels, 1, channels), persistent=False)

    def forward(self, gains: Tensor, *mixed: Tensor) -> GroupedWeights:
        """Of what `rows` returned."""
        sizes = [size * self._channels for own in self.rows.gains for size in own]
        by_norm = iter(torch.split(gains.unsqueeze(1).expand(-1, self._channels).flatten(), sizes))
        kernels: list[Tensor | None] = []
        for (maps, targets), weights in zip(self.rows.runs, mixed, strict=True):
            kernels += self._kernels(maps, targets, weights) if maps else [None] * len(targets)
        return GroupedWeights([[next(by_norm) for _ in own] for own in self.rows.gains], kernels)

    def _kernels(self, maps: int, targets: Sequence[int], weights: Tensor) -> Sequence[Tensor]:
        """Of one run: an identity for each pair of target and map, weighted."""
        wide = (weights.view(-1, 1, maps, 1) * self.identity).view(-1, maps * self._channels, 1, 1)
        return torch.split(wide, [count * self._channels for count in targets]) if len(targets) > 1 else [wide]


class GroupedPlans:
    """One plan for all cells that are alike, built when first asked for."""

    def __init__(self, options: SupernetOptions) -> None:
        self._options = options
        self._rows: dict[tuple[str, bool], MixtureRows] = {}
        self._plans: dict[tuple[str, bool, int], GroupedPlan] = {}

    def plan(self, layout: CellLayout, channels: int, *, reduction: bool) -> GroupedPlan:
        """Of cells of this layout, stride and number of mixed channels."""
        kind = layout.name, reduction
        if kind not in self._rows:
            self._rows[kind] = MixtureRows(layout, self._options, reduction=reduction)
        if (*kind, channels) not in self._plans:
            self._plans[*kind, channels] = GroupedPlan(layout, channels, self._rows[kind])
        return self._plans[*kind, channels]


def grouped_weights(
    plans: Sequence[GroupedPlan | None], mixtures: Sequence[CellMixture]
) -> list[GroupedWeights | None]:
    """Of each cell, computed once for cells that share a plan and a mixture.

    None without a plan, and for a mixture of which only some operations are computed.
    """
    rows: list[tuple[MixtureRows, CellMixture, tuple[Tensor, ...]]] = []
    found: list[tuple[GroupedPlan, CellMixture, GroupedWeights]] = []
    weights: list[GroupedWeights | None] = []
    for plan, mixture in zip(plans, mixtures, strict=True):
        if plan is None or mixture.active is not None:
            weights.append(None)
            continue
        own = next((value for key, other, value in found if key is plan and other is mixture), None)
        if own is None:
            taken = next((value for key, other, value in rows if key is plan.rows and other is mixture), None)
            if taken is None:
                taken = plan.rows(mixture)
                rows.append((plan.rows, mixture, taken))
            own = plan(*taken)
            found.append((plan, mixture, own))
        weights.append(own)
    return weights
