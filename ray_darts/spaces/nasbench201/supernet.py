"""The NAS-Bench-201 supernet: every operation on every edge of the cells, mixed by weights (arXiv:2001.00326).

Results that depend only on a source state (its ReLU, its average pool) are computed once per state; one call computes
a source's convolutions of one size into all of its targets. `none` is zero and never computed, but it has its share of
the mixing weights.

Suffixes: N samples, C channels, H W pixels, E edges sorted by source, K operations, T targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.genotype.layout import CellLayout
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import NO_OPTIONS, SupernetOptions
from ray_darts.spaces.batch_norm import BatchNorm, Maps, Norm, Normalise, normalise, use_kernel
from ray_darts.spaces.classification import ClassifyingSupernet
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.layers import convolution_weight, pool
from ray_darts.spaces.mixing import (
    CellMixture,
    EdgeGroup,
    SourceOrder,
    add_up,
    bypass,
    cell_mixtures,
    edge_groups,
    mix,
    shuffle,
)
from ray_darts.spaces.nasbench201.operations import AVERAGE_POOL, CONVOLUTIONS
from ray_darts.spaces.nasbench201.skeleton import Skeleton
from ray_darts.spaces.nasbench201.space import SKIP, NasBench201Space
from ray_darts.spaces.recomputing import RecomputableCell, recomputed
from ray_darts.spaces.supernet import MixingWeights


class StackedConvolution(nn.Module):
    """A ReLU-convolution-BN on all edges of a cell: weights [E * C, C, k, k] and features are ordered by edge."""

    def __init__(self, size: int, edges: int, channels: int, momentum: float, *, affine: bool) -> None:
        super().__init__()
        self.size = size
        self.weight = convolution_weight(edges * channels, channels, size, size)
        self.batch_norm = BatchNorm(edges * channels, momentum=momentum, affine=affine)


@dataclass(frozen=True)
class _Branch:
    """The convolutions of one size from one source into T targets: `weight` [T * C, C, k, k]."""

    weight: Tensor
    padding: int
    norm: Norm


class SearchCell(RecomputableCell):
    """Maps one input state to the last node."""

    def __init__(
        self, layout: CellLayout, channels: int, momentum: float, layer: int, *, affine: bool, partial_channels: int
    ) -> None:
        super().__init__()
        self._parts, self._layer = partial_channels, layer
        channels = channels // partial_channels
        self.channels, self.groups, self.operations = channels, edge_groups(layout), layout.operations
        self.convolutions = nn.ModuleDict(
            {
                name: StackedConvolution(CONVOLUTIONS[name], len(layout.edges), channels, momentum, affine=affine)
                for name in layout.operations
                if name in CONVOLUTIONS
            }
        )

    def forward(self, state: Tensor, mixture: CellMixture, batch_statistics: bool, update: bool) -> Tensor:
        """[N, C, H, W] to the same."""
        columns = dict(zip(self.operations, mixture.operations.unbind(1), strict=True))

        def apply(norms: Sequence[Norm], tensors: Sequence[Maps]) -> list[Tensor]:
            if self.is_recomputing:
                norms = [replace(norm, on_copies=True) for norm in norms]
            return normalise(norms, tensors, batch_statistics=batch_statistics, update=update)

        auxiliary, dropped = mixture.auxiliary, None
        if mixture.active is not None:
            terms_of = partial(self._active_terms, mixture, mixture.active, columns, self._split(), apply)
        else:
            if mixture.skip_dropout is not None:
                dropped = columns.pop(SKIP, None)
            if auxiliary is not None:
                columns[SKIP] = columns[SKIP] + auxiliary if SKIP in columns else auxiliary
            terms_of = partial(self._terms, columns, self._branches(columns), apply)
        terms: list[list[Tensor]] = [[] for _ in self.groups]
        bypassed: list[list[Tensor]] = [[] for _ in self.groups]
        for index, group in enumerate(self.groups):
            mixed = state
            if self._parts > 1:
                rests = bypass([state[:, self.channels :]], mixture.edges, group, halved=False)
                for node, rest in zip(group.nodes, rests, strict=True):
                    bypassed[node].append(rest)
                mixed = state[:, : self.channels].contiguous(memory_format=torch.channels_last)
            for node, addends in zip(group.nodes, terms_of(index, mixed), strict=True):
                terms[node] += addends
            if dropped is not None:
                for node, edge in zip(group.nodes, range(group.start, group.stop), strict=True):
                    terms[node].append(mixture.drop(mixed, f"{self._layer}.{edge}") * dropped[edge])
            state = add_up(terms[index])
            if self._parts > 1:
                state = shuffle(torch.cat([state, add_up(bypassed[index])], dim=1), self._parts)
        return state

    def _terms(
        self, columns: dict[str, Tensor], branches: list[list[_Branch]], apply: Normalise, index: int, state: Tensor
    ) -> list[list[Tensor]]:
        """For each node of group `index` the tensors that all operations on its edge add to it."""
        group = self.groups[index]
        mixed: list[tuple[Tensor, ...]] = []
        if branches[index]:
            positive = F.relu(state)
            tensors = [F.conv2d(positive, branch.weight, padding=branch.padding) for branch in branches[index]]
            total = add_up(apply([branch.norm for branch in branches[index]], tensors))
            mixed.append(total.chunk(len(group.nodes), dim=1))
        mixed += self._plain(state, group, columns)
        return [list(addends) for addends in zip(*mixed, strict=True)] or [[] for _ in group.nodes]

    def _split(self) -> dict[str, tuple[StackedConvolution, tuple[Tensor, ...]]]:
        """{convolution: its module and its weights by edge}."""
        return {
            name: (module, torch.split(module.weight, self.channels))
            for name, module in self.convolutions.items()
            if isinstance(module, StackedConvolution)
        }

    def _active_terms(
        self,
        mixture: CellMixture,
        active: tuple[tuple[int, ...], ...],
        columns: dict[str, Tensor],
        convolutions: dict[str, tuple[StackedConvolution, tuple[Tensor, ...]]],
        apply: Normalise,
        index: int,
        state: Tensor,
    ) -> list[list[Tensor]]:
        """As `_terms`, of the operations whose mixing weight is not 0; what is not computed moves no statistics."""
        group, channels = self.groups[index], self.channels
        plain = cache(lambda name: F.relu(state) if name in convolutions else pool(AVERAGE_POOL, state, 1))
        terms: list[list[Tensor]] = [[] for _ in group.nodes]
        norms: list[Norm] = []
        tensors: list[Tensor] = []
        targets: list[int] = []
        for target, edge in enumerate(range(group.start, group.stop)):
            for name in (self.operations[column] for column in active[edge]):
                if name in convolutions:
                    module, weights = convolutions[name]
                    gain = columns[name][edge].expand(channels)
                    norms.append(module.batch_norm.norm(edge * channels, (edge + 1) * channels, gain=gain))
                    tensors.append(F.conv2d(plain(name), weights[edge], padding=module.size // 2))
                    targets.append(target)
                elif name == AVERAGE_POOL:
                    terms[target].append(plain(name) * columns[name][edge])
                elif name == SKIP:
                    terms[target].append(mixture.drop(state, f"{self._layer}.{edge}") * columns[name][edge])
            if mixture.auxiliary is not None:
                terms[target].append(state * mixture.auxiliary[edge])
        for target, tensor in zip(targets, apply(norms, tensors), strict=True):
            terms[target].append(tensor)
        return [own or [torch.zeros_like(state)] for own in terms]

    def _branches(self, columns: dict[str, Tensor]) -> list[list[_Branch]]:
        """The convolutions of each group, of every size; splits each stacked tensor once."""
        channels = self.channels
        widths = [(group.stop - group.start) * channels for group in self.groups]
        branches: list[list[_Branch]] = [[] for _ in self.groups]
        for name, module in self.convolutions.items():
            assert isinstance(module, StackedConvolution)
            gains = columns[name].unsqueeze(1).expand(-1, channels).flatten()
            parts = zip(torch.split(module.weight, widths), torch.split(gains, widths), strict=True)
            for index, (weight, gain) in enumerate(parts):
                start = self.groups[index].start * channels
                branches[index].append(
                    _Branch(weight, module.size // 2, module.batch_norm.norm(start, start + widths[index], gain=gain))
                )
        return branches

    def _plain(self, state: Tensor, group: EdgeGroup, columns: dict[str, Tensor]) -> list[tuple[Tensor, ...]]:
        """The mixed skip connection and average pool of `state` for each of the group's nodes, as at most one tuple."""
        tensors = {}
        if SKIP in columns:
            tensors[SKIP] = state
        if AVERAGE_POOL in columns:
            tensors[AVERAGE_POOL] = pool(AVERAGE_POOL, state, 1)
        if not tensors:
            return []
        weights = torch.stack([columns[name][group.start : group.stop] for name in tensors])
        return [mix(list(tensors.values()), weights, len(group.nodes))]


class NasBench201Supernet(ClassifyingSupernet):
    """All cells share one mixture.

    `checkpoint_cells`: keep only each cell's input and recompute the cell in the backward pass. `kernel`: computes
    batch norms for the maps that it supports.
    """

    def __init__(
        self,
        space: NasBench201Space,
        facts: DataFacts,
        *,
        checkpoint_cells: bool = False,
        kernel: Kernel | None = None,
        options: SupernetOptions = NO_OPTIONS,
    ) -> None:
        super().__init__()
        self.layout, self._skips_zeros = space.layout(), options.skips_zeros
        self._checkpoint_cells = checkpoint_cells
        self.order = SourceOrder(self.layout)
        (cell,) = self.layout.cells
        self._name, momentum = cell.name, space.batch_norm_momentum

        layers = count()

        def make_cell(channels: int) -> SearchCell:
            return SearchCell(
                cell, channels, momentum, next(layers), affine=space.affine, partial_channels=options.partial_channels
            )

        self.skeleton = Skeleton(facts, space.channels, space.cells_per_stage, momentum, make_cell)
        if kernel is not None:
            use_kernel(self, kernel)

    @property
    def layers_of_cells(self) -> Mapping[str, int]:
        """All search cells."""
        return {self._name: len(self.skeleton.cells)}

    def logits(self, images_NCHW: Tensor, mixing: MixingWeights, *, batch_statistics: bool, update: bool) -> Tensor:
        """Class scores [N, classes]."""
        by_kind = cell_mixtures(self.layout, mixing, self.order.rows, skips_zeros=self._skips_zeros, draws=self.draws)
        mixtures = by_kind[self._name]

        call = recomputed if self._checkpoint_cells else SearchCell.__call__

        def run(cell: nn.Module, state: Tensor) -> Tensor:
            assert isinstance(cell, SearchCell)
            return call(cell, state, next(mixtures), batch_statistics, update)

        scores: Tensor = self.skeleton(images_NCHW, run, batch_statistics=batch_statistics, update=update)
        return scores
