"""The grouped formulation of a cell: few calls, for GPUs, where launches cost more than arithmetic.

The maps of a group's sources lie side by side in one tensor, and so do the sums for all nodes that are not complete.
One call convolves all edges of a group by a depthwise kernel, one all edges and operations by a pointwise one, and one
dense 1x1 convolution mixes pools and skip connections into all targets. Maps are contiguous: PyTorch's own depthwise
kernels for CUDA are for those.

Suffixes: N samples, C channels, H W pixels, S sources of a group, T its targets, E = S * T edges, ordered by source.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ray_darts.spaces.batch_norm import BatchNorm, Normalise
from ray_darts.spaces.convolutional.operations import CONVOLUTIONS, StackedStage
from ray_darts.spaces.convolutional.plan import GroupedWeights
from ray_darts.spaces.layers import pool
from ray_darts.spaces.mixing import CellMixture, EdgeGroup, add_up

if TYPE_CHECKING:
    from ray_darts.spaces.convolutional.cell import SearchCell


class GroupedOperations:
    """One pass through one cell. Each stacked parameter is split once."""

    def __init__(self, cell: SearchCell, mixture: CellMixture, weights: GroupedWeights, apply: Normalise) -> None:
        self._cell, self._mixture, self._weights, self._apply = cell, mixture, weights, apply
        assert cell.plan is not None
        edges, second_rows = [group.stop - group.start for group in cell.groups], cell.plan.second_rows
        self._stages = [
            _SplitStage(module, edges, [gains[index] for gains in weights.gains], second_rows if index else None)
            for index, module in enumerate(module for module in cell.stages if isinstance(module, StackedStage))
        ]
        widths = [len(group.sources) * cell.shape.mixed for group in cell.groups]
        self._pools = {
            name: module.norms(widths) for name, module in cell.pools.items() if isinstance(module, BatchNorm)
        }
        by_edge = cell.has_edge_terms(mixture)
        self._columns = dict(zip(cell.operations, mixture.operations.unbind(1), strict=True)) if by_edge else {}
        self._later: Tensor | None = None

    def terms(self, group: EdgeGroup, sources: list[Tensor]) -> list[list[Tensor]]:
        """For each of the group's nodes tensors to add to it; the first node is complete with them.

        What this group and those before add to the other nodes is kept for the next call.
        """
        cell, number, stride = self._cell, group.nodes[0], self._cell.stride(group)
        state = sources[0] if len(sources) == 1 else torch.cat(sources, dim=1)
        norms = [split[number] for split in self._pools.values()]
        tensors = [pool(name, state, stride) for name in self._pools]
        reduces = [module for module in (cell.reduce, cell.auxiliary_reduce) if stride == 2 and module is not None]
        # A ReLU that keeps its input for the backward pass, as pools do, and not its result.
        positive = F.threshold(state, 0.0, 0.0) if self._stages or reduces else state
        for module, gain in zip(reduces, self._weights.gains[number][len(self._stages) :], strict=True):
            norms.append(module.batch_norm.norm(gain=gain))
            tensors.append(module.side_by_side(positive, len(sources)))
        if self._stages:
            norms.append(self._stages[0].norms[number])
            tensors.append(self._stages[0].convolve(number, _spread(positive, group), stride))
        normed = self._apply(norms, tensors)
        plain, sums = normed[: len(self._pools)], normed[len(self._pools) :]
        if self._stages:
            sums += self._repeated(number, sums.pop())
        terms = _folded(sums, len(group.nodes) * cell.shape.mixed)
        kernel = self._weights.kernels[number]
        if kernel is not None:
            mixed = [*plain, state] if kernel.shape[1] > len(plain) * state.shape[1] else plain
            terms.append(F.conv2d(torch.cat(mixed, dim=1), kernel))
        return self._completed(group, terms, cell.edge_terms(self._mixture, self._columns, group, sources))

    def _repeated(self, number: int, normed: Tensor) -> list[Tensor]:
        """Apply the second stage to those operations of the first that have one; return it and the others."""
        first, *others = self._stages
        runs = first.runs(normed)
        finished = [part for is_repeated, part in runs if not is_repeated]
        again = [F.relu(part) for is_repeated, part in runs if is_repeated]
        for second in others:
            finished += self._apply([second.norms[number]], [second.convolve_again(number, again)])
        return finished

    def _completed(self, group: EdgeGroup, terms: list[Tensor], by_edge: list[list[Tensor]]) -> list[list[Tensor]]:
        """Add `terms` (each of all the group's nodes) to what is kept, and split the first node off."""
        if self._later is not None:
            terms.append(self._later)
        if not terms:
            return by_edge
        total, channels = add_up(terms), self._cell.shape.mixed
        if len(group.nodes) > 1:
            total, self._later = torch.split(total, [channels, total.shape[1] - channels], dim=1)
            total = total.contiguous()  # a view would keep the sums of all nodes for the backward pass
        by_edge[0].insert(0, total)
        return by_edge


class _SplitStage:
    """A stage of convolutions whose weights are split by group of edges; E edges of the group, B operations.

    `second_rows`: of a second stage, whose operations are convolved by one call, as all have the dilation 1: smaller
    kernels are padded with zeros.
    """

    def __init__(
        self, module: StackedStage, edges: Sequence[int], gains: Sequence[Tensor], second_rows: Tensor | None
    ) -> None:
        self._names, channels = module.names, module.pointwise.shape[1]
        widths = [count * channels for count in edges]
        blocks = [len(module.names) * width for width in widths]
        kernels = [module.depthwise[name].flatten(0, 1) for name in module.names]
        if second_rows is not None and len(kernels) > 1:
            largest = max(kernel.shape[-1] for kernel in kernels)
            kernels = [_padded(kernel, largest) for kernel in kernels]
            self._kernels = [torch.split(torch.cat(kernels).index_select(0, second_rows), blocks)]
        else:
            self._kernels = [torch.split(kernel, widths) for kernel in kernels]
        self._pointwise = torch.split(module.pointwise.flatten(0, 1), blocks)
        self.norms = module.batch_norm.norms(blocks, gains)

    def convolve(self, number: int, maps: Tensor, stride: int) -> Tensor:
        """The first stage of group `number`, [N, E * C, H, W] to [N, B * E * C, H', W'], before its batch norm."""
        convolved = [
            _depthwise(maps, kernels[number], stride, CONVOLUTIONS[name].dilation)
            for name, kernels in zip(self._names, self._kernels, strict=True)
        ]
        return self._mix_channels(number, convolved)

    def convolve_again(self, number: int, parts: Sequence[Tensor]) -> Tensor:
        """The second stage, of parts of [N, B * E * C, H, W], before its batch norm."""
        maps = parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)
        return self._mix_channels(number, [_depthwise(maps, self._kernels[0][number], 1, 1)])

    def runs(self, normed: Tensor) -> list[tuple[bool, Tensor]]:
        """(whether they have a second stage, their part of `normed`) of operations next to each other."""
        repeated = [CONVOLUTIONS[name].repeats == 2 for name in self._names]
        runs = [(key, len(list(run))) for key, run in groupby(repeated)]
        width = normed.shape[1] // len(repeated)
        parts = torch.split(normed, [count * width for _, count in runs], dim=1) if len(runs) > 1 else [normed]
        return [(key, part) for (key, _), part in zip(runs, parts, strict=True)]

    def _mix_channels(self, number: int, convolved: list[Tensor]) -> Tensor:
        weight = self._pointwise[number]
        maps = convolved[0] if len(convolved) == 1 else torch.cat(convolved, dim=1)
        return F.conv2d(maps, weight, groups=len(weight) // weight.shape[1])


def _depthwise(maps: Tensor, kernels: Tensor, stride: int, dilation: int) -> Tensor:
    padding = dilation * (kernels.shape[-1] - 1) // 2
    return F.conv2d(maps, kernels, None, stride, padding, dilation, groups=len(kernels))


def _padded(kernels: Tensor, size: int) -> Tensor:
    margin = (size - kernels.shape[-1]) // 2
    return F.pad(kernels, [margin] * 4) if margin else kernels


def _spread(maps: Tensor, group: EdgeGroup) -> Tensor:
    """[N, S * C, H, W] to [N, E * C, H, W]: the source of each edge."""
    targets = len(group.nodes)
    if targets == 1:
        return maps
    if len(group.sources) == 1:
        return maps.repeat(1, targets, 1, 1)
    by_source = torch.unflatten(maps, 1, (len(group.sources), 1, -1))
    return by_source.expand(-1, -1, targets, -1, -1, -1).flatten(1, 3)


def _folded(tensors: Sequence[Tensor], width: int) -> list[Tensor]:
    """Tensors [N, width, H, W] with the same sum as all blocks of `width` channels in `tensors`."""
    by_size = groupby(sorted(tensors, key=lambda tensor: tensor.shape[1]), key=lambda tensor: tensor.shape[1])
    totals = [add_up(list(same)) for _, same in by_size]
    return [
        block for total in totals for block in (torch.split(total, width, dim=1) if total.shape[1] > width else [total])
    ]
