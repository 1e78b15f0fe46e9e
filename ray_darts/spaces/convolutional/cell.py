"""One cell of the supernet: every operation on every edge, mixed by weights, computed source by source.

Results that depend only on a source state (its ReLU, its pools and their batch norms) are computed once per state and
mixed into all of its targets by one small product. `none` is zero and never computed, but it has its share of the
softmax. Knows no network around it.

Suffixes: N samples, C channels, H W pixels, E edges sorted by source, K operations, T targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.genotype.layout import CellLayout
from ray_darts.protocols.registry import find_operation
from ray_darts.spaces.batch_norm import BatchNorm, Norm, normalise
from ray_darts.spaces.convolutional.branches import Branches, Formulation, Normalise, Normed, Stage
from ray_darts.spaces.convolutional.operations import (
    CONVOLUTIONS,
    ReluConvBn,
    StackedReduce,
    StackedStage,
)
from ray_darts.spaces.convolutional.space import OPERATIONS, SKIP
from ray_darts.spaces.layers import POOLS, pool
from ray_darts.spaces.mixing import EdgeGroup, add_up, edge_groups, mix
from ray_darts.spaces.own_operations import PassPolicy, build_operation


@dataclass(frozen=True)
class CellShape:
    """`inputs`: channels of the two previous cells; `halving`: the older of the two has larger maps."""

    inputs: tuple[int, int]
    channels: int
    reduction: bool
    halving: bool
    momentum: float


class _Recomputing(AbstractContextManager[None]):
    def __init__(self, cell: SearchCell) -> None:
        self._cell = cell

    def __enter__(self) -> None:
        self._cell.is_recomputing = True

    def __exit__(self, *_: object) -> None:
        self._cell.is_recomputing = False


class SearchCell(nn.Module):
    """Maps two input states to the concatenation of all nodes."""

    def __init__(self, layout: CellLayout, shape: CellShape, formulation: Formulation) -> None:
        super().__init__()
        self.shape, self.groups, self.operations = shape, edge_groups(layout), layout.operations
        self._formulation, self.is_recomputing = formulation, False
        edges, channels, momentum = len(layout.edges), shape.channels, shape.momentum
        before, previous = shape.inputs
        self.preprocess = nn.ModuleList(
            [
                ReluConvBn(before, channels, momentum, halving=shape.halving),
                ReluConvBn(previous, channels, momentum),
            ]
        )
        first = [name for name in layout.operations if name in CONVOLUTIONS]
        second = [name for name in first if CONVOLUTIONS[name].repeats == 2]
        self.stages = nn.ModuleList(
            [StackedStage(names, edges, channels, momentum) for names in (first, second) if names]
        )
        sources = layout.num_inputs + layout.num_nodes - 1
        self.pools = nn.ModuleDict(
            {name: BatchNorm(sources * channels, momentum=momentum) for name in layout.operations if name in POOLS}
        )
        reduces = shape.reduction and SKIP in layout.operations
        self.reduce = StackedReduce(self.groups[0].stop, channels, momentum) if reduces else None
        self.policy = PassPolicy()
        # "_": a module has attributes of its own that an operation may be called after, such as half
        self.own = nn.ModuleDict(
            {f"{name}_": self._own_modules(name, layout) for name in layout.operations if name not in OPERATIONS}
        )

    def forward(
        self, before: Tensor, previous: Tensor, mixture_EK: Tensor, batch_statistics: bool, update: bool
    ) -> Tensor:
        """[N, C1, H1, W1], [N, C2, H, W] to [N, nodes * C, H, W] (half the size in a reduction cell, rounded up).

        `mixture_EK`: mixing weights, rows sorted by source; the flags are `normalise`'s.
        """

        self.policy.batch_statistics, self.policy.update = batch_statistics, update
        self.policy.on_copies = self.is_recomputing

        def apply(norms: Sequence[Norm], tensors: Sequence[Tensor]) -> list[Tensor]:
            if self.is_recomputing:
                norms = [replace(norm, on_copies=True) for norm in norms]
            return normalise(norms, tensors, batch_statistics=batch_statistics, update=update)

        inputs = [module(state) for module, state in zip(self._preprocessing(), (before, previous), strict=True)]
        states = apply([module.batch_norm.norm() for module in self._preprocessing()], inputs)
        num_inputs = len(states)
        columns = dict(zip(self.operations, mixture_EK.unbind(1), strict=True))
        branches = self._branches(columns)
        terms: list[list[Tensor]] = [[] for _ in self.groups]
        for group in self.groups:
            for node, addends in zip(
                group.nodes, self._group_terms(group, states, columns, branches, apply), strict=True
            ):
                terms[node] += addends
            states.append(add_up(terms[group.nodes[0]]))
        return torch.cat(states[num_inputs:], dim=1)

    def _own_modules(self, name: str, layout: CellLayout) -> nn.ModuleList:
        """One module per edge of an operation that is not the space's, edges sorted by source."""
        sources = sorted(edge.source for edge in layout.edges)
        strides = [2 if self.shape.reduction and source < layout.num_inputs else 1 for source in sources]
        operation = find_operation(name)
        return nn.ModuleList(
            [build_operation(operation, self.shape.channels, stride, self.policy) for stride in strides]
        )

    def _preprocessing(self) -> list[ReluConvBn]:
        return [module for module in self.preprocess if isinstance(module, ReluConvBn)]

    def recomputing(self) -> AbstractContextManager[None]:
        """Inside, only copies of running statistics are updated, as activation checkpointing repeats the forward pass.

        May be entered several times: two backward passes through one graph recompute it twice.
        """
        return _Recomputing(self)

    def _branches(self, columns: dict[str, Tensor]) -> list[Branches]:
        """The weights of each group's convolutions; splits each stacked parameter once."""
        stages = [module for module in self.stages if isinstance(module, StackedStage)]
        if not stages:
            return []
        by_stage = [self._split(stage, index, columns) for index, stage in enumerate(stages)]
        if len(stages) == 1:
            return [Branches(first, None, ()) for first in by_stage[0]]
        repeated = tuple(stages[0].names.index(name) for name in stages[1].names)
        return [Branches(first, second, repeated) for first, second in zip(*by_stage, strict=True)]

    def _split(self, module: StackedStage, index: int, columns: dict[str, Tensor]) -> list[Stage]:
        """One stage of each group."""
        edges = [group.stop - group.start for group in self.groups]
        rows = [len(module.names) * size for size in edges]
        channels = self.shape.channels
        blocks = [size * channels for size in rows]
        weights = [
            columns[name] if CONVOLUTIONS[name].repeats == index + 1 else torch.ones_like(columns[name])
            for name in module.names
        ]
        by_group = torch.cat([part.reshape(-1) for part in torch.split(torch.stack(weights), edges, dim=1)])
        gains = torch.split(by_group.unsqueeze(1).expand(-1, channels).flatten(), blocks)
        widths = [size * channels for size in edges]
        kernels = [torch.split(module.depthwise[name].flatten(0, 1), widths) for name in module.names]
        dilations = [CONVOLUTIONS[name].dilation for name in module.names]
        stages = []
        for number, pointwise in enumerate(torch.split(module.pointwise.flatten(0, 1), blocks)):
            own = [(parts[number], dilation) for parts, dilation in zip(kernels, dilations, strict=True)]
            start = len(module.names) * self.groups[number].start * channels
            stages.append(Stage(own, pointwise, module.batch_norm, start, gains[number]))
        return stages

    def _group_terms(
        self,
        group: EdgeGroup,
        states: list[Tensor],
        columns: dict[str, Tensor],
        branches: list[Branches],
        apply: Normalise,
    ) -> list[list[Tensor]]:
        """For each of the group's nodes the tensors that its edges add to it."""
        from_inputs = group.start == 0
        stride = 2 if from_inputs and self.shape.reduction else 1
        sources = [states[index] for index in group.sources]
        needs_relu = bool(branches) or (stride == 2 and self.reduce is not None)
        positives = [F.relu(source) for source in sources] if needs_relu else []
        beside = self._pooled(group, sources, stride)
        num_pooled = len(beside.norms)
        if stride == 2 and self.reduce is not None:
            gains = columns[SKIP][: group.stop].unsqueeze(1).expand(-1, self.shape.channels).contiguous()
            for edge, (reduced, gain) in enumerate(zip(self.reduce(positives), gains.unbind(), strict=True)):
                start = edge * self.shape.channels
                beside.norms.append(self.reduce.batch_norm.norm(start, start + self.shape.channels, gain=gain))
                beside.tensors.append(reduced)
        terms: list[list[Tensor]] = [[] for _ in group.nodes]
        if branches:
            terms, normed = self._formulation(positives, branches[group.nodes[0]], stride, apply, beside)
        else:
            normed = apply(beside.norms, beside.tensors)
        for edge, reduced in enumerate(normed[num_pooled:]):
            terms[edge % len(group.nodes)].append(reduced)
        for name, modules in self.own.items():
            assert isinstance(modules, nn.ModuleList)
            for edge, module in enumerate(modules[group.start : group.stop]):
                source = sources[edge // len(group.nodes)]
                terms[edge % len(group.nodes)].append(
                    module(source) * columns[name.removesuffix("_")][group.start + edge]
                )
        plain = normed[:num_pooled]
        names = list(self.pools)
        if stride == 1 and SKIP in columns:
            plain += sources
            names.append(SKIP)
        if plain:
            weights = torch.stack([columns[name][group.start : group.stop] for name in names])
            for addends, mixed in zip(terms, mix(plain, weights, len(group.nodes)), strict=True):
                addends.append(mixed)
        return terms

    def _pooled(self, group: EdgeGroup, sources: list[Tensor], stride: int) -> Normed:
        """Pools of the sources, ordered by pool, with their batch norms."""
        norms, tensors = [], []
        for name, module in self.pools.items():
            assert isinstance(module, BatchNorm)
            for index, source in zip(group.sources, sources, strict=True):
                start = index * self.shape.channels
                norms.append(module.norm(start, start + self.shape.channels))
                tensors.append(pool(name, source, stride))
        return Normed(norms, tensors)
