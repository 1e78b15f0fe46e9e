"""One cell of the supernet: every operation on every edge, mixed by weights, computed source by source.

Results that depend only on a source state (its ReLU, its pools and their batch norms) are computed once per state and
mixed into all of its targets by one small product. `none` is zero and never computed, but it has its share of the
softmax. Knows no network around it.

Suffixes: N samples, C channels, H W pixels, E edges sorted by source, K operations, T targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.genotype.layout import CellLayout
from ray_darts.protocols.registry import find_operation
from ray_darts.spaces.batch_norm import BatchNorm, Maps, Norm, Normalise, normalise
from ray_darts.spaces.convolutional.active import ActiveOperations
from ray_darts.spaces.convolutional.branches import Branches, Formulation, Normed, group_branches
from ray_darts.spaces.convolutional.compiled import CompiledOperations
from ray_darts.spaces.convolutional.grouped import GroupedOperations
from ray_darts.spaces.convolutional.operations import CONVOLUTIONS, Preprocess, StackedReduce, StackedStage
from ray_darts.spaces.convolutional.plan import GroupedPlan, GroupedWeights
from ray_darts.spaces.convolutional.space import KNOWN, NOISE, SKIP
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.layers import POOLS, pool
from ray_darts.spaces.mixing import CellMixture, EdgeGroup, add_up, bypass, edge_groups, mix, shuffle
from ray_darts.spaces.own_operations import PassPolicy, build_operation
from ray_darts.spaces.recomputing import RecomputableCell


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


class SearchCell(RecomputableCell):
    """Maps two input states to the concatenation of all nodes.

    `plan`: of the grouped formulation, shared by cells that are alike; without one `kernel` computes the groups that it
    supports, and `formulation` the others.
    """

    def __init__(
        self,
        layout: CellLayout,
        shape: CellShape,
        formulation: Formulation,
        plan: GroupedPlan | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        super().__init__()
        self.plan, self._kernel = plan, kernel
        self.kind, self.shape = layout.name, shape
        self.groups, self.operations = edge_groups(layout), layout.operations
        self._formulation = formulation
        edges, channels, momentum = len(layout.edges), shape.mixed, shape.momentum
        before, previous = shape.inputs
        self.preprocess = nn.ModuleList(
            [
                Preprocess(before, shape.channels, momentum, halving=shape.halving, by_stride=plan is not None),
                Preprocess(previous, shape.channels, momentum),
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
        self,
        before: Tensor,
        previous: Tensor,
        mixture: CellMixture,
        weights: GroupedWeights | None,
        batch_statistics: bool,
        update: bool,
    ) -> Tensor:
        """[N, C1, H1, W1], [N, C2, H, W] to [N, nodes * C, H, W] (half the size in a reduction cell, rounded up).

        The inputs are outputs of the two previous cells as `Preprocess` takes them. `weights`: of the mixture, by the
        cell's plan. The flags are `normalise`'s.
        """

        if self.own:  # a compiler cannot repeat a cell that sets attributes
            self.policy.batch_statistics, self.policy.update = batch_statistics, update
            self.policy.on_copies = self.is_recomputing

        def apply(norms: Sequence[Norm], tensors: Sequence[Maps]) -> list[Tensor]:
            if self.is_recomputing:
                norms = [replace(norm, on_copies=True) for norm in norms]
            return normalise(norms, tensors, batch_statistics=batch_statistics, update=update)

        inputs = [module(state) for module, state in zip(self._preprocessing(), (before, previous), strict=True)]
        states = apply([module.batch_norm.norm() for module in self._preprocessing()], inputs)
        num_inputs = len(states)
        kernel = self._kernel if batch_statistics else None
        terms_of = self._terms(mixture, weights, apply, kernel, update=update and not self.is_recomputing)
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
                form = torch.channels_last if self.plan is None else torch.contiguous_format
                sources = [source[:, :mixed].contiguous(memory_format=form) for source in sources]
            for node, addends in zip(group.nodes, terms_of(group, sources), strict=True):
                terms[node] = [add_up([*terms[node], *addends])] if addends else terms[node]  # one map, not one a term
            node = group.nodes[0]
            state = add_up(terms[node])
            if mixed < channels:
                state = shuffle(torch.cat([state, add_up(bypassed[node])], dim=1), channels // mixed)
            states.append(state)
        return torch.cat(states[num_inputs:], dim=1)

    def _terms(
        self,
        mixture: CellMixture,
        weights: GroupedWeights | None,
        apply: Normalise,
        kernel: Kernel | None,
        *,
        update: bool,
    ) -> Callable[[EdgeGroup, list[Tensor]], list[list[Tensor]]]:
        """terms(group, its sources): for each of the group's nodes the tensors that its edges add to it."""
        if mixture.active is not None:
            return ActiveOperations(self, mixture, apply).terms
        if weights is not None:
            return GroupedOperations(self, mixture, weights, apply).terms
        columns = dict(zip(self.operations, mixture.operations.unbind(1), strict=True))
        branches = group_branches(self._stages(), self.groups, columns)
        separately = partial(self._group_terms, mixture, columns, branches, apply)
        if kernel is None:
            return separately
        return CompiledOperations(self, kernel, mixture, columns, branches, apply, separately, update=update).terms

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

    def _preprocessing(self) -> list[Preprocess]:
        return [module for module in self.preprocess if isinstance(module, Preprocess)]

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
        reduces = self.reduces(mixture, columns, group)
        positives = [F.relu(source) for source in sources] if branches or reduces else []
        beside = self._pooled(group, sources, stride)
        num_pooled = len(beside.norms)
        for reduce, weights in reduces:
            norms, reduced = reduce.with_norms(positives, weights)
            beside.norms.extend(norms)
            beside.tensors.extend(reduced)
        terms: list[list[Tensor]] = [[] for _ in group.nodes]
        if branches:
            terms, normed = self._formulation(positives, branches[group.nodes[0]], stride, apply, beside)
        else:
            normed = apply(beside.norms, beside.tensors)
        for edge, output in enumerate(normed[num_pooled:]):
            terms[edge % len(group.nodes)].append(output)
        for own, addends in zip(terms, self.edge_terms(mixture, columns, group, sources), strict=True):
            own += addends
        plain = normed[:num_pooled]
        rows = [columns[name] for name in self.pools]
        skips = self.skips(mixture, columns, group)
        if skips is not None:
            plain += sources
            rows.append(skips)
        if plain:
            table = torch.stack([row[group.start : group.stop] for row in rows])
            for addends, mixed in zip(terms, mix(plain, table, len(group.nodes)), strict=True):
                addends.append(mixed)
        return terms

    def reduces(
        self, mixture: CellMixture, columns: dict[str, Tensor], group: EdgeGroup
    ) -> list[tuple[StackedReduce, Tensor]]:
        """The factorised reduces of the group's edges, if they have stride 2, each with its weights [E]."""
        pairs = ((self.reduce, columns.get(SKIP)), (self.auxiliary_reduce, mixture.auxiliary))
        return [
            (module, weights[: group.stop])
            for module, weights in pairs
            if self.stride(group) == 2 and module is not None and weights is not None
        ]

    def skips(self, mixture: CellMixture, columns: dict[str, Tensor], group: EdgeGroup) -> Tensor | None:
        """The weights [E] of skip connections that are the sources themselves, or None if there are none."""
        if self.stride(group) == 2:
            return None
        own = columns.get(SKIP) if mixture.skip_dropout is None else None
        if mixture.auxiliary is None:
            return own
        return mixture.auxiliary if own is None else mixture.auxiliary + own

    def has_edge_terms(self, mixture: CellMixture) -> bool:
        """Whether `edge_terms` has any."""
        return bool(self.own) or NOISE in self.operations or mixture.skip_dropout is not None

    def edge_terms(
        self, mixture: CellMixture, columns: dict[str, Tensor], group: EdgeGroup, sources: list[Tensor]
    ) -> list[list[Tensor]]:
        """For each of the group's nodes what every formulation computes edge by edge: operations that are not the
        space's, noise, and skip connections that drop elements. `columns`: {operation: its weights [E]}."""
        stride, num_targets = self.stride(group), len(group.nodes)
        terms: list[list[Tensor]] = [[] for _ in group.nodes]
        edges = [(edge, *divmod(edge - group.start, num_targets)) for edge in range(group.start, group.stop)]
        for name, modules in self.own.items():
            assert isinstance(modules, nn.ModuleList)
            for edge, source, target in edges:
                terms[target].append(modules[edge](sources[source]) * columns[name.removesuffix("_")][edge])
        if NOISE in columns:
            for edge, _, target in edges:
                drawn = self.noise(mixture, edge, sources[0], stride)
                terms[target].append(drawn * columns[NOISE][edge])
        if stride == 1 and SKIP in columns and mixture.skip_dropout is not None:
            for edge, source, target in edges:
                dropped = mixture.drop(sources[source], f"{self.shape.layer}.{edge}")
                terms[target].append(dropped * columns[SKIP][edge])
        return terms

    def noise(self, mixture: CellMixture, edge: int, source: Tensor, stride: int) -> Tensor:
        """The numbers of one edge for this batch, [N, C, H / stride, W / stride], rounded up."""
        assert mixture.draws is not None, "a pass over a batch has draws"
        samples, channels, height, width = source.shape
        shape = (samples, channels, -(-height // stride), -(-width // stride))
        return mixture.draws.normal(f"noise.{self.shape.layer}.{edge}", shape, batch_dim=0, like=source)

    def _pooled(self, group: EdgeGroup, sources: list[Tensor], stride: int) -> Normed:
        """Pools of the sources, ordered by pool, with their batch norms."""
        norms: list[Norm] = []
        tensors: list[Maps] = []
        for name, module in self.pools.items():
            assert isinstance(module, BatchNorm)
            for index, source in zip(group.sources, sources, strict=True):
                start = index * self.shape.mixed
                norms.append(module.norm(start, start + self.shape.mixed))
                tensors.append(pool(name, source, stride))
        return Normed(norms, tensors)
