"""One cell of the supernet: every operation on every edge, mixed by weights, computed source by source.

Results that depend only on a source state (its ReLU, its pools and their batch norms) are computed once per state and
mixed into all of its targets by one small product. `none` is zero and never computed, but it has its share of the
softmax. Knows no network around it.

Suffixes: N samples, C channels, H W pixels, E edges sorted by source, K operations, T targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.genotype.layout import CellLayout
from ray_darts.protocols.registry import find_operation
from ray_darts.spaces.batch_norm import BatchNorm, Norm, Normalise, normalise
from ray_darts.spaces.convolutional.active import ActiveOperations
from ray_darts.spaces.convolutional.branches import Branches, Formulation, Normed, group_branches
from ray_darts.spaces.convolutional.compiled import compute_group, fits_kernel
from ray_darts.spaces.convolutional.operations import (
    CONVOLUTIONS,
    ReluConvBn,
    StackedReduce,
    StackedStage,
)
from ray_darts.spaces.convolutional.space import KNOWN, NOISE, SKIP
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.layers import POOLS, pool
from ray_darts.spaces.mixing import CellMixture, EdgeGroup, add_up, bypass, edge_groups, mix, shuffle
from ray_darts.spaces.own_operations import PassPolicy, build_operation


@dataclass(frozen=True)
class CellShape:
    """`inputs`: channels of the two previous cells; `halving`: the older of the two has larger maps.

    `mixed`: the channels of a state that go through the operations; the others bypass them. `auxiliary_skip`: each
    edge has one. `layer`: names the cell's random numbers.
    """

    inputs: tuple[int, int]
    channels: int
    reduction: bool
    halving: bool
    momentum: float
    mixed: int
    auxiliary_skip: bool
    layer: int


class _Recomputing(AbstractContextManager[None]):
    def __init__(self, cell: SearchCell) -> None:
        self._cell = cell

    def __enter__(self) -> None:
        self._cell.is_recomputing = True

    def __exit__(self, *_: object) -> None:
        self._cell.is_recomputing = False


class SearchCell(nn.Module):
    """Maps two input states to the concatenation of all nodes; `kernel`: computes the groups that it supports."""

    def __init__(
        self, layout: CellLayout, shape: CellShape, formulation: Formulation, kernel: Kernel | None = None
    ) -> None:
        super().__init__()
        self._kernel = kernel
        self.kind, self.shape = layout.name, shape
        self.groups, self.operations = edge_groups(layout), layout.operations
        self._formulation, self.is_recomputing = formulation, False
        edges, channels, momentum = len(layout.edges), shape.mixed, shape.momentum
        before, previous = shape.inputs
        self.preprocess = nn.ModuleList(
            [
                ReluConvBn(before, shape.channels, momentum, halving=shape.halving),
                ReluConvBn(previous, shape.channels, momentum),
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
        reduces = shape.reduction and shape.auxiliary_skip
        self.auxiliary_reduce = StackedReduce(self.groups[0].stop, channels, momentum) if reduces else None
        self.policy = PassPolicy()
        # "_": a module has attributes of its own that an operation may be called after, such as half
        self.own = nn.ModuleDict(
            {f"{name}_": self._own_modules(name, layout) for name in layout.operations if name not in KNOWN}
        )

    def forward(
        self, before: Tensor, previous: Tensor, mixture: CellMixture, batch_statistics: bool, update: bool
    ) -> Tensor:
        """[N, C1, H1, W1], [N, C2, H, W] to [N, nodes * C, H, W] (half the size in a reduction cell, rounded up).

        The flags are `normalise`'s.
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
        columns = dict(zip(self.operations, mixture.operations.unbind(1), strict=True))
        terms_of = self._terms(mixture, columns, apply)
        terms: list[list[Tensor]] = [[] for _ in self.groups]
        bypassed: list[list[Tensor]] = [[] for _ in self.groups]
        mixed, channels = self.shape.mixed, self.shape.channels
        for group in self.groups:
            sources = [states[index] for index in group.sources]
            if mixed < channels:
                rests = [source[:, mixed:] for source in sources]
                halved = self.stride(group) == 2
                for node, rest in zip(group.nodes, bypass(rests, mixture.edges, group, halved=halved), strict=True):
                    bypassed[node].append(rest)
                sources = [source[:, :mixed].contiguous(memory_format=torch.channels_last) for source in sources]
            for node, addends in zip(group.nodes, terms_of(group, sources), strict=True):
                terms[node] += addends
            node = group.nodes[0]
            state = add_up(terms[node])
            if mixed < channels:
                state = shuffle(torch.cat([state, add_up(bypassed[node])], dim=1), channels // mixed)
            states.append(state)
        return torch.cat(states[num_inputs:], dim=1)

    def _terms(
        self, mixture: CellMixture, columns: dict[str, Tensor], apply: Normalise
    ) -> Callable[[EdgeGroup, list[Tensor]], list[list[Tensor]]]:
        """terms(group, its sources): for each of the group's nodes the tensors that its edges add to it."""
        if mixture.active is not None:
            return ActiveOperations(self, mixture, apply).terms
        branches = group_branches(self._stages(), self.groups, columns)
        return partial(self._group_terms, mixture, columns, branches, apply)

    def _stages(self) -> list[StackedStage]:
        return [module for module in self.stages if isinstance(module, StackedStage)]

    def stride(self, group: EdgeGroup) -> int:
        """Of the group's edges: a reduction cell halves its inputs."""
        return 2 if group.start == 0 and self.shape.reduction else 1

    def _own_modules(self, name: str, layout: CellLayout) -> nn.ModuleList:
        """One module per edge of an operation that is not the space's, edges sorted by source."""
        sources = sorted(edge.source for edge in layout.edges)
        strides = [2 if self.shape.reduction and source < layout.num_inputs else 1 for source in sources]
        operation = find_operation(name)
        return nn.ModuleList([build_operation(operation, self.shape.mixed, stride, self.policy) for stride in strides])

    def _preprocessing(self) -> list[ReluConvBn]:
        return [module for module in self.preprocess if isinstance(module, ReluConvBn)]

    def recomputing(self) -> AbstractContextManager[None]:
        """Inside, only copies of running statistics are updated, as activation checkpointing repeats the forward pass.

        May be entered several times: two backward passes through one graph recompute it twice.
        """
        return _Recomputing(self)

    def _group_terms(
        self,
        mixture: CellMixture,
        columns: dict[str, Tensor],
        branches: list[Branches],
        apply: Normalise,
        group: EdgeGroup,
        sources: list[Tensor],
    ) -> list[list[Tensor]]:
        """For each of the group's nodes the tensors that all operations on its edges add to it."""
        stride = self.stride(group)
        skips = columns.get(SKIP)
        dropped = skips if stride == 1 and mixture.skip_dropout is not None else None
        passed = skips if dropped is None else None
        if mixture.auxiliary is not None:
            passed = mixture.auxiliary if passed is None else mixture.auxiliary + passed
        reduces = [
            (module, weights)
            for module, weights in ((self.reduce, skips), (self.auxiliary_reduce, mixture.auxiliary))
            if stride == 2 and module is not None and weights is not None
        ]
        mixed_names = [*self.pools, *([SKIP] if stride == 1 and passed is not None else [])]
        by_name = columns if passed is None else {**columns, SKIP: passed}
        compiled = bool(branches or self.pools) and self._is_compiled(sources, stride)
        kernel = self._kernel if compiled else None
        positives = [F.relu(source) for source in sources] if (branches or reduces) and not compiled else sources
        beside = Normed([], []) if compiled else self._pooled(group, sources, stride)
        num_pooled = len(beside.norms)
        for reduce, weights in reduces:
            gains = weights[: group.stop].unsqueeze(1).expand(-1, self.shape.mixed).contiguous()
            for edge, (reduced, gain) in enumerate(zip(reduce(positives, kernel), gains.unbind(), strict=True)):
                start = edge * self.shape.mixed
                beside.norms.append(reduce.batch_norm.norm(start, start + self.shape.mixed, gain=gain))
                beside.tensors.append(reduced)
        terms: list[list[Tensor]] = [[] for _ in group.nodes]
        own_branches = branches[group.nodes[0]] if branches else None
        if compiled:
            names = [*(self._stages()[0].names if branches else ()), *mixed_names]
            weights_of = [by_name[name][group.start : group.stop] for name in names]
            terms = [[target] for target in self._compiled(group, sources, own_branches, weights_of, mixed_names)]
        if own_branches is not None and not compiled:
            terms, normed = self._formulation(positives, own_branches, stride, apply, beside)
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
        if NOISE in columns:
            for edge in range(group.start, group.stop):
                drawn = self.noise(mixture, edge, sources[0], stride)
                terms[(edge - group.start) % len(group.nodes)].append(drawn * columns[NOISE][edge])
        if dropped is not None:
            for edge in range(group.start, group.stop):
                number, target = divmod(edge - group.start, len(group.nodes))
                terms[target].append(mixture.drop(sources[number], f"{self.shape.layer}.{edge}") * dropped[edge])
        plain = [] if compiled else [*normed[:num_pooled], *(sources if SKIP in mixed_names else ())]
        if plain:
            weights = torch.stack([by_name[name][group.start : group.stop] for name in mixed_names])
            for addends, mixed in zip(terms, mix(plain, weights, len(group.nodes)), strict=True):
                addends.append(mixed)
        return terms

    def _is_compiled(self, sources: list[Tensor], stride: int) -> bool:
        norm = self._preprocessing()[0].batch_norm
        statistics = self.policy.batch_statistics
        return self._kernel is not None and statistics and fits_kernel(self._kernel, sources, norm, stride)

    def _compiled(
        self,
        group: EdgeGroup,
        sources: list[Tensor],
        branches: Branches | None,
        weights: list[Tensor],
        mixed_names: list[str],
    ) -> tuple[Tensor, ...]:
        """The sums that the kernel computes for the group's nodes."""
        assert self._kernel is not None
        first = group.sources[0] * self.shape.mixed
        return compute_group(
            self._kernel,
            sources,
            branches,
            {name: (module, first) for name, module in self.pools.items() if isinstance(module, BatchNorm)},
            weights,
            self.stride(group),
            len(group.nodes),
            skips=SKIP in mixed_names,
            update=self.policy.update and not self.policy.on_copies,
        )

    def noise(self, mixture: CellMixture, edge: int, source: Tensor, stride: int) -> Tensor:
        """The numbers of one edge for this batch, [N, C, H / stride, W / stride], rounded up."""
        assert mixture.draws is not None, "a pass over a batch has draws"
        samples, channels, height, width = source.shape
        shape = (samples, channels, -(-height // stride), -(-width // stride))
        return mixture.draws.normal(f"noise.{self.shape.layer}.{edge}", shape, batch_dim=0, like=source)

    def _pooled(self, group: EdgeGroup, sources: list[Tensor], stride: int) -> Normed:
        """Pools of the sources, ordered by pool, with their batch norms."""
        norms, tensors = [], []
        for name, module in self.pools.items():
            assert isinstance(module, BatchNorm)
            for index, source in zip(group.sources, sources, strict=True):
                start = index * self.shape.mixed
                norms.append(module.norm(start, start + self.shape.mixed))
                tensors.append(pool(name, source, stride))
        return Normed(norms, tensors)
