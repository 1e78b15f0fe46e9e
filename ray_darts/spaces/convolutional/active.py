"""The operations of a cell whose mixing weight is not 0, computed one by one: for methods that sample operations.

The same function of weights and mixing weights as the whole mixture. What is not computed moves no running statistics.
Suffixes: N samples, C channels, H W pixels, E edges sorted by source, T targets.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.genotype.genotype import NONE
from ray_darts.spaces.batch_norm import BatchNorm, Maps, Norm, Normalise
from ray_darts.spaces.convolutional.operations import CONVOLUTIONS, StackedReduce, StackedStage
from ray_darts.spaces.convolutional.positive_pointwise import halve
from ray_darts.spaces.convolutional.separable import separable_before
from ray_darts.spaces.convolutional.space import NOISE, SKIP
from ray_darts.spaces.layers import POOLS, pool
from ray_darts.spaces.mixing import CellMixture, EdgeGroup

if TYPE_CHECKING:
    from ray_darts.spaces.convolutional.cell import SearchCell


class ActiveOperations:
    """One pass through one cell. Stacked weights are split once, as each index into one would have a gradient of its
    whole size."""

    def __init__(self, cell: SearchCell, mixture: CellMixture, apply: Normalise) -> None:
        assert mixture.active is not None
        self._cell, self._apply, self._active, self._mixture = cell, apply, mixture.active, mixture
        num_operations = len(cell.operations)
        flat = mixture.operations.flatten().unbind()
        self._weights = [flat[start : start + num_operations] for start in range(0, len(flat), num_operations)]
        self._auxiliary = None if mixture.auxiliary is None else mixture.auxiliary.unbind()
        self._stages = [_SplitStage(module) for module in cell.stages if isinstance(module, StackedStage)]
        self._reduce, self._auxiliary_reduce = (
            None if module is None else _SplitReduce(module) for module in (cell.reduce, cell.auxiliary_reduce)
        )

    def terms(self, group: EdgeGroup, sources: list[Tensor]) -> list[list[Tensor]]:
        """For each of the group's nodes the tensors that the active operations on its edges add to it.

        Two rounds of batch norms: one collective each with synchronised statistics. A node without an active operation
        gets zeros.
        """
        num_targets, stride = len(group.nodes), self._cell.stride(group)
        positive = cache(lambda source: F.relu(sources[source]))
        terms: list[list[Tensor]] = [[] for _ in group.nodes]
        work, again, pools = _Work(terms), _Work(terms), _Work(terms)
        pooled: dict[tuple[str, int], list[int]] = {}
        repeated: list[tuple[str, int]] = []
        for edge in range(group.start, group.stop):
            source, target = divmod(edge - group.start, num_targets)
            for column in self._active[edge]:
                name, weight = self._cell.operations[column], self._weights[edge][column]
                if name in CONVOLUTIONS and CONVOLUTIONS[name].repeats == 2:
                    repeated.append((name, edge))
                    work.add(None, *self._stages[0].convolve(group, name, edge, positive(source), stride, None))
                elif name in CONVOLUTIONS:
                    work.add(target, *self._stages[0].convolve(group, name, edge, positive(source), stride, weight))
                elif name in POOLS:
                    pooled.setdefault((name, source), []).append(edge)
                elif name == SKIP and self._reduce is not None and stride == 2:
                    work.add(target, *self._reduce.halve(positive(source), edge, weight))
                elif name == SKIP:
                    skipped = self._mixture.drop(sources[source], f"{self._cell.shape.layer}.{edge}")
                    terms[target].append(skipped * weight)
                elif name == NOISE:
                    terms[target].append(self._cell.noise(self._mixture, edge, sources[source], stride) * weight)
                elif name != NONE:
                    modules = self._cell.own[f"{name}_"]
                    assert isinstance(modules, nn.ModuleList)
                    terms[target].append(modules[edge](sources[source]) * weight)
            if self._auxiliary is not None and self._auxiliary_reduce is not None and stride == 2:
                halved = self._auxiliary_reduce.halve(positive(source), edge, self._auxiliary[edge])
                work.add(target, *halved)
            elif self._auxiliary is not None:
                terms[target].append(sources[source] * self._auxiliary[edge])
        for name, source in pooled:
            module, start = self._cell.pools[name], group.sources[source] * self._cell.shape.mixed
            assert isinstance(module, BatchNorm)
            pools.add(None, module.norm(start, start + self._cell.shape.mixed), pool(name, sources[source], stride))
        first = self._apply([*work.norms, *pools.norms], [*work.tensors, *pools.tensors])
        for ((name, _), edges), tensor in zip(pooled.items(), first[len(work.norms) :], strict=True):
            column = self._cell.operations.index(name)
            for edge in edges:
                terms[(edge - group.start) % num_targets].append(tensor * self._weights[edge][column])
        for (name, edge), tensor in zip(repeated, work.place(first[: len(work.norms)]), strict=True):
            weight = self._weights[edge][self._cell.operations.index(name)]
            target = (edge - group.start) % num_targets
            again.add(target, *self._stages[1].convolve(group, name, edge, F.relu(tensor), 1, weight))
        again.place(self._apply(again.norms, again.tensors))
        size = sources[0] if stride == 1 else sources[0][:, :, ::2, ::2]
        return [own or [torch.zeros_like(size)] for own in terms]


class _Work:
    """Tensors that wait for their batch norms, each with the node to which it is added, or None."""

    def __init__(self, terms: list[list[Tensor]]) -> None:
        self._terms = terms
        self._targets: list[int | None] = []
        self.norms: list[Norm] = []
        self.tensors: list[Maps] = []

    def add(self, target: int | None, norm: Norm, tensor: Maps) -> None:
        """Keep one."""
        self._targets.append(target)
        self.norms.append(norm)
        self.tensors.append(tensor)

    def place(self, normed: list[Tensor]) -> list[Tensor]:
        """Add the normalised tensors to their nodes; return those without one."""
        left: list[Tensor] = []
        for target, tensor in zip(self._targets, normed, strict=True):
            (left if target is None else self._terms[target]).append(tensor)
        return left


class _SplitStage:
    """A stage of convolutions whose weights are split by operation and edge."""

    def __init__(self, module: StackedStage) -> None:
        self._names, self._batch_norm = module.names, module.batch_norm
        self._channels = module.pointwise.shape[1]
        self._pointwise = module.pointwise.unbind()
        self._depthwise = {name: module.depthwise[name].unbind() for name in module.names}

    def convolve(
        self, group: EdgeGroup, name: str, edge: int, positive: Tensor, stride: int, weight: Tensor | None
    ) -> tuple[Norm, Maps]:
        """One depthwise and pointwise convolution, before its batch norm, which multiplies by `weight`."""
        size = group.stop - group.start
        row = len(self._names) * group.start + self._names.index(name) * size + edge - group.start
        kernel, dilation = self._depthwise[name][edge], CONVOLUTIONS[name].dilation
        convolved = separable_before(self._batch_norm, positive, kernel, self._pointwise[row], stride, dilation)
        return _norm(self._batch_norm, row, self._channels, weight), convolved


class _SplitReduce:
    """The factorised reduces of all edges from the inputs, whose weights are split by edge."""

    def __init__(self, module: StackedReduce) -> None:
        self._batch_norm = module.batch_norm
        self._halves = list(zip(module.first.unbind(), module.second.unbind(), strict=True))

    def halve(self, positive: Tensor, edge: int, weight: Tensor) -> tuple[Norm, Tensor]:
        """Half the height and width, before its batch norm, which multiplies by `weight`."""
        halved = torch.cat(halve(positive, *self._halves[edge]), dim=1)
        return _norm(self._batch_norm, edge, halved.shape[1], weight), halved


def _norm(module: BatchNorm, row: int, channels: int, weight: Tensor | None) -> Norm:
    gain = None if weight is None else weight.expand(channels)
    return module.norm(row * channels, (row + 1) * channels, gain=gain)
