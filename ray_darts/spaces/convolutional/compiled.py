"""A group of edges computed by the compiled kernel in one call: convolutions, pools, batch norms, skips and sums.

Suffixes: N samples, C channels, H W pixels, E edges of the group, sorted by source, T targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ray_darts.spaces import tangents
from ray_darts.spaces.batch_norm import BatchNorm, Normalise, normalise
from ray_darts.spaces.convolutional.branches import Branches, Normed, Stage, separate
from ray_darts.spaces.convolutional.operations import CONVOLUTIONS
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.kernel.dual_group import apply_dual_group
from ray_darts.spaces.kernel.group import apply_group
from ray_darts.spaces.kernel.group_call import KernelGroup, KernelPool, KernelStage
from ray_darts.spaces.layers import pool
from ray_darts.spaces.mixing import CellMixture, EdgeGroup, mix
from ray_darts.spaces.planned_device import uses_plain_operators

if TYPE_CHECKING:
    from ray_darts.spaces.convolutional.cell import SearchCell

_MAX_POOL = "max_pool_3x3"


class CompiledOperations:
    """One pass through one cell by the batch's statistics. `separately`: the terms of a group that the kernel does not
    support; `update`: move the running statistics."""

    def __init__(
        self,
        cell: SearchCell,
        kernel: Kernel,
        mixture: CellMixture,
        columns: dict[str, Tensor],
        branches: Sequence[Branches],
        apply: Normalise,
        separately: Callable[[EdgeGroup, list[Tensor]], list[list[Tensor]]],
        *,
        update: bool,
    ) -> None:
        self._cell, self._kernel, self._mixture, self._columns = cell, kernel, mixture, columns
        self._branches, self._apply, self._separately, self._update = branches, apply, separately, update
        self._pools = {name: module for name, module in cell.pools.items() if isinstance(module, BatchNorm)}

    def terms(self, group: EdgeGroup, sources: list[Tensor]) -> list[list[Tensor]]:
        """For each of the group's nodes the tensors that all operations on its edges add to it."""
        cell, stride = self._cell, self._cell.stride(group)
        branches = self._branches[group.nodes[0]] if self._branches else None
        norms = [branches.first.batch_norm] if branches is not None else list(self._pools.values())
        if not norms or not _fits(self._kernel, sources, norms[0], stride, self._update):
            return self._separately(group, sources)
        names = [*(name for name in cell.operations if name in CONVOLUTIONS), *self._pools]
        weights = [self._columns[name] for name in names]
        skips = cell.skips(self._mixture, self._columns, group)
        targets = compute_group(
            self._kernel,
            sources,
            branches,
            {name: (module, group.sources[0] * cell.shape.mixed) for name, module in self._pools.items()},
            [each[group.start : group.stop] for each in (weights if skips is None else [*weights, skips])],
            stride,
            len(group.nodes),
            skips=skips is not None,
            update=self._update,
        )
        terms = cell.edge_terms(self._mixture, self._columns, group, sources)
        for reduce, own in cell.reduces(self._mixture, self._columns, group):
            for edge, reduced in enumerate(self._apply(*reduce.with_norms(sources, own, self._kernel))):
                terms[edge % len(targets)].append(reduced)
        return [[target, *others] for target, others in zip(targets, terms, strict=True)]


def _fits(kernel: Kernel, sources: Sequence[Tensor], batch_norm: BatchNorm, stride: int, update: bool) -> bool:
    """Whether the kernel computes the group of these sources; where they carry tangents, it moves no statistics."""
    samples, _, height, width = sources[0].shape
    several = samples * -(-height // stride) * -(-width // stride) > 1
    plain = uses_plain_operators(sources[0]) or (update and tangents.are_carried())
    return several and not plain and batch_norm.moments_reducer is None and all(map(kernel.fits, sources))


def compute_group(
    kernel: Kernel,
    sources: Sequence[Tensor],
    branches: Branches | None,
    pools: Mapping[str, tuple[BatchNorm, int]],
    weights: Sequence[Tensor],
    stride: int,
    targets: int,
    *,
    skips: bool,
    update: bool,
) -> tuple[Tensor, ...]:
    """The targets' sums over the sources [N, C, H, W] of all operations times their weights.

    `pools`: {name: its batch norm, the first of its features}; `weights`: [E] of each convolution, each pool and, with
    `skips`, of the sources themselves; `update`: move the running statistics.
    """
    channels = sources[0].shape[1]
    size = len(sources) * targets * channels
    stages: list[KernelStage] = []
    kernels: list[Tensor] = []
    mixing: list[Tensor] = []
    repeated = branches.repeated if branches is not None else ()
    parts = [stage for stage in (branches.first, branches.second) if stage is not None] if branches is not None else []
    num_first = len(parts[0].kernels) if parts else 0
    for number, part in enumerate(parts):
        mixing += torch.split(part.pointwise, size)
        for index, (weight, dilation) in enumerate(part.kernels):
            following = num_first + repeated.index(index) if number == 0 and index in repeated else None
            start = part.start + index * size
            running = _running(part.batch_norm, start, size) if update else None
            kernels.append(weight)
            stages.append(KernelStage(weight.shape[-1], dilation, following, running))
    width = len(sources) * channels
    batch_norm = parts[0].batch_norm if parts else next(iter(pools.values()))[0]
    group = KernelGroup(
        kernel,
        tuple(stages),
        num_first,
        tuple(
            KernelPool(name == _MAX_POOL, _running(norm, start, width) if update else None)
            for name, (norm, start) in pools.items()
        ),
        skips,
        stride,
        targets,
        batch_norm.momentum,
        batch_norm.epsilon,
        partial(plain_group, kernel, branches, pools, stride, targets, skips),
    )
    assert not (update and tangents.are_carried()), "numbers with tangents move no statistics"
    apply = apply_dual_group if tangents.are_carried() else apply_group
    return apply(group, sources, kernels, mixing, torch.stack(list(weights)))


def _running(norm: BatchNorm, start: int, size: int) -> tuple[Tensor, Tensor]:
    return norm.running_mean[start : start + size], norm.running_var[start : start + size]


def plain_group(
    kernel: Kernel | None,
    branches: Branches | None,
    pools: Mapping[str, tuple[BatchNorm, int]],
    stride: int,
    targets: int,
    skips: bool,
    sources: Sequence[Tensor],
    kernels: Sequence[Tensor],
    mixing: Sequence[Tensor],
    weights: Tensor,
) -> list[Tensor]:
    """What `compute_group` computes, by one node per operation; moves no statistics."""
    channels = sources[0].shape[1]
    pooled = Normed([], [])
    for name, (norm, start) in pools.items():
        for index, source in enumerate(sources):
            pooled.norms.append(norm.norm(start + index * channels, start + (index + 1) * channels))
            pooled.tensors.append(pool(name, source, stride))
    apply = partial(normalise, batch_statistics=True, update=False)
    terms: list[list[Tensor]] = [[] for _ in range(targets)]
    if branches is None:
        normed = apply(pooled.norms, pooled.tensors)
    else:
        num_first = len(branches.first.kernels)
        ones = torch.ones_like(weights[0])
        gains = [ones if index in branches.repeated else weights[index] for index in range(num_first)]
        first = _stage(branches.first, kernels[:num_first], mixing[:num_first], gains)
        second = branches.second
        if second is not None:
            gains = [weights[index] for index in branches.repeated]
            second = _stage(second, kernels[num_first:], mixing[num_first:], gains)
        again = Branches(first, second, branches.repeated)
        terms, normed = separate([F.relu(source) for source in sources], again, stride, apply, pooled, kernel)
    plain = [*normed, *sources] if skips else normed
    if plain:
        rows = len(plain) // len(sources)
        for addends, mixed in zip(terms, mix(plain, weights[len(weights) - rows :], targets), strict=True):
            addends.append(mixed)
    return [torch.stack(addends).sum(0) for addends in terms]


def _stage(stage: Stage, kernels: Sequence[Tensor], mixing: Sequence[Tensor], gains: Sequence[Tensor]) -> Stage:
    channels = stage.pointwise.shape[1]
    own = [(weight, dilation) for weight, (_, dilation) in zip(kernels, stage.kernels, strict=True)]
    by_channel = torch.stack(list(gains)).flatten().unsqueeze(1).expand(-1, channels).flatten()
    return Stage(own, torch.cat(list(mixing)), stage.batch_norm, stage.start, by_channel)
