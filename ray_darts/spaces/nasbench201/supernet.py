"""The NAS-Bench-201 supernet: every operation on every edge of the cells, mixed by weights (arXiv:2001.00326).

Results that depend only on a source state (its ReLU, its average pool) are computed once per state; one call computes
a source's convolutions of one size into all of its targets. `none` is zero and never computed, but it has its share of
the mixing weights.

Suffixes: N samples, C channels, H W pixels, E edges sorted by source, K operations, T targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.genotype.layout import CellLayout
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.batch_norm import BatchNorm, Norm, normalise, use_kernel
from ray_darts.spaces.classification import ClassifyingSupernet
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.layers import convolution_weight, pool
from ray_darts.spaces.mixing import EdgeGroup, add_up, edge_groups, mix, rows_by_source, sort_rows
from ray_darts.spaces.nasbench201.operations import AVERAGE_POOL, CONVOLUTIONS
from ray_darts.spaces.nasbench201.skeleton import Skeleton
from ray_darts.spaces.nasbench201.space import SKIP, NasBench201Space
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


class SearchCell(nn.Module):
    """Maps one input state to the last node."""

    def __init__(self, layout: CellLayout, channels: int, momentum: float, *, affine: bool) -> None:
        super().__init__()
        self.channels, self.groups, self.operations = channels, edge_groups(layout), layout.operations
        self.convolutions = nn.ModuleDict(
            {
                name: StackedConvolution(CONVOLUTIONS[name], len(layout.edges), channels, momentum, affine=affine)
                for name in layout.operations
                if name in CONVOLUTIONS
            }
        )

    def forward(self, state: Tensor, mixture_EK: Tensor, batch_statistics: bool, update: bool) -> Tensor:
        """[N, C, H, W] to the same. `mixture_EK`: mixing weights, rows sorted by source."""
        columns = dict(zip(self.operations, mixture_EK.unbind(1), strict=True))
        branches = self._branches(columns)
        terms: list[list[Tensor]] = [[] for _ in self.groups]
        for index, group in enumerate(self.groups):
            mixed: list[tuple[Tensor, ...]] = []
            if branches[index]:
                positive = F.relu(state)
                tensors = [F.conv2d(positive, branch.weight, padding=branch.padding) for branch in branches[index]]
                norms = [branch.norm for branch in branches[index]]
                total = add_up(normalise(norms, tensors, batch_statistics=batch_statistics, update=update))
                mixed.append(total.chunk(len(group.nodes), dim=1))
            mixed += self._plain(state, group, columns)
            for addends in mixed:
                for node, term in zip(group.nodes, addends, strict=True):
                    terms[node].append(term)
            state = add_up(terms[index])
        return state

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
    """All cells share one mixture. `kernel`: computes batch norms for the maps that it supports."""

    def __init__(self, space: NasBench201Space, facts: DataFacts, *, kernel: Kernel | None = None) -> None:
        super().__init__()
        self.layout = space.layout()
        (cell,) = self.layout.cells
        self._name, self._rows = cell.name, rows_by_source(cell)
        momentum = space.batch_norm_momentum

        def make_cell(channels: int) -> SearchCell:
            return SearchCell(cell, channels, momentum, affine=space.affine)

        self.skeleton = Skeleton(facts, space.channels, space.cells_per_stage, momentum, make_cell)
        if kernel is not None:
            use_kernel(self, kernel)

    def logits(self, images_NCHW: Tensor, mixing: MixingWeights, *, batch_statistics: bool, update: bool) -> Tensor:
        """Class scores [N, classes]."""
        mixture = sort_rows(mixing[self._name], self._rows)

        def run(cell: nn.Module, state: Tensor) -> Tensor:
            return cell(state, mixture, batch_statistics, update)  # type: ignore[no-any-return]

        scores: Tensor = self.skeleton(images_NCHW, run, batch_statistics=batch_statistics, update=update)
        return scores
