"""The convolutions of a group of edges on CPUs, in one of two formulations of the same function.

`separate`: one call per edge and operation, where each call is large enough; `by_source`: one per source and operation.
What GPUs compute is in `grouped.py`. Knows no cells.

Suffixes: N samples, C channels, H W pixels, E edges of the group, sorted by source, as many for each; B operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ray_darts.spaces.batch_norm import BatchNorm, Maps, Norm, Normalise
from ray_darts.spaces.convolutional.operations import CONVOLUTIONS, StackedStage
from ray_darts.spaces.convolutional.separable import separable_before
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.mixing import EdgeGroup, add_up

NARROW = 8
"""Up to so many channels `by_source` is faster than `separate` on CPUs."""


@dataclass(frozen=True)
class Stage:
    """The first or second (depthwise, pointwise, batch norm) of B operations on E edges, ordered by operation.

    `kernels`: [E * C, 1, k, k] and dilation of each operation; `pointwise`: [B * E * C, C, 1, 1]; `batch_norm` has
    their features from `start`; `gains` [B * E * C] multiply its results: alpha weights, or 1 before a second stage.
    """

    kernels: list[tuple[Tensor, int]]
    pointwise: Tensor
    batch_norm: BatchNorm
    start: int
    gains: Tensor

    @property
    def num_edges(self) -> int:
        """E."""
        return len(self.kernels[0][0]) // self.pointwise.shape[1]


@dataclass(frozen=True)
class Branches:
    """All convolutions of a group of edges; operations at the indices `repeated` have a second stage."""

    first: Stage
    second: Stage | None
    repeated: tuple[int, ...]


@dataclass(frozen=True)
class Normed:
    """Tensors and the batch norms still to be applied to them."""

    norms: list[Norm]
    tensors: list[Maps]


Formulation = Callable[[list[Tensor], Branches, int, Normalise, Normed], tuple[list[list[Tensor]], list[Tensor]]]
"""(positives, branches, stride, normalise, beside) -> (terms, normalised).

`positives`: the sources [N, C, H, W] after ReLU; `beside`: other tensors that are normalised together with the first
stage, so that one collective sums all statistics, returned as `normalised`; `terms[t]`: tensors [N, C, H', W'] whose
sum is the mixture of all convolutions on the group's edges into target t.
"""


def group_branches(
    modules: Sequence[StackedStage], groups: Sequence[EdgeGroup], columns: Mapping[str, Tensor]
) -> list[Branches]:
    """The weights of each group's convolutions, none without modules; splits each stacked parameter once.

    `modules`: the first stage of all convolutions, then the second of those that have one; `columns`: {operation:
    mixing weights [E]}.
    """
    if not modules:
        return []
    by_stage = [_split(module, index, groups, columns) for index, module in enumerate(modules)]
    if len(modules) == 1:
        return [Branches(first, None, ()) for first in by_stage[0]]
    repeated = tuple(modules[0].names.index(name) for name in modules[1].names)
    return [Branches(first, second, repeated) for first, second in zip(*by_stage, strict=True)]


def _split(module: StackedStage, index: int, groups: Sequence[EdgeGroup], columns: Mapping[str, Tensor]) -> list[Stage]:
    """One stage of each group."""
    edges = [group.stop - group.start for group in groups]
    channels = module.pointwise.shape[1]
    blocks = [len(module.names) * size * channels for size in edges]
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
        start = len(module.names) * groups[number].start * channels
        stages.append(Stage(own, pointwise, module.batch_norm, start, gains[number]))
    return stages


def separate(
    positives: list[Tensor],
    branches: Branches,
    stride: int,
    normalise: Normalise,
    beside: Normed,
    kernel: Kernel | None = None,
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """One depthwise, one pointwise convolution and one batch norm per edge, operation and stage.

    `kernel`: computes both convolutions for the maps that it supports.
    """
    edges = branches.first.num_edges
    sources = [positive for positive in positives for _ in range(edges // len(positives))]
    work = _convolve_each(branches.first, [sources] * len(branches.first.kernels), stride, kernel)
    normed = normalise([*beside.norms, *work.norms], [*beside.tensors, *work.tensors])
    beside_normed, normed = normed[: len(beside.norms)], normed[len(beside.norms) :]
    outputs = [normed[start : start + edges] for start in range(0, len(normed), edges)]
    if branches.second is not None:
        again = [[F.relu_(x) for x in outputs[index]] for index in branches.repeated]
        work = _convolve_each(branches.second, again, 1, kernel)
        normed = normalise(work.norms, work.tensors)
        for position, index in enumerate(branches.repeated):
            outputs[index] = normed[position * edges : (position + 1) * edges]
    targets = edges // len(positives)
    return [[x for output in outputs for x in output[target::targets]] for target in range(targets)], beside_normed


def _convolve_each(stage: Stage, positives: list[list[Tensor]], stride: int, kernel: Kernel | None) -> Normed:
    """`positives`: by operation, by edge."""
    channels = stage.pointwise.shape[1]
    pointwise, gains = torch.split(stage.pointwise, channels), torch.split(stage.gains, channels)
    norms: list[Norm] = []
    tensors: list[Maps] = []
    for (kernels, dilation), sources in zip(stage.kernels, positives, strict=True):
        for positive, weight in zip(sources, torch.split(kernels, channels), strict=True):
            row = len(tensors)
            start = stage.start + row * channels
            norm = stage.batch_norm
            tensors.append(separable_before(norm, positive, weight, pointwise[row], stride, dilation, kernel))
            norms.append(norm.norm(start, start + channels, gain=gains[row]))
    return Normed(norms, tensors)


def by_source(
    positives: list[Tensor], branches: Branches, stride: int, normalise: Normalise, beside: Normed
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """One convolution and one batch norm per source, operation and stage, for all edges of the source.

    A depthwise and a pointwise convolution are one dense convolution with the product of their kernels. Of few channels
    it is faster on CPUs, although it has k * k times the multiply-adds of the pointwise one.
    """
    count = len(positives)
    targets = branches.first.num_edges // count
    work = _convolve_merged(branches.first, [positives] * len(branches.first.kernels), stride, targets, groups=1)
    normed = normalise([*beside.norms, *work.norms], [*beside.tensors, *work.tensors])
    beside_normed, normed = normed[: len(beside.norms)], normed[len(beside.norms) :]
    outputs = [normed[start : start + count] for start in range(0, len(normed), count)]
    if branches.second is not None:
        again = [[F.relu_(x) for x in outputs[index]] for index in branches.repeated]
        work = _convolve_merged(branches.second, again, 1, targets, groups=targets)
        normed = normalise(work.norms, work.tensors)
        for position, index in enumerate(branches.repeated):
            outputs[index] = normed[position * count : (position + 1) * count]
    total = add_up([x for output in outputs for x in output])
    return [[term] for term in total.chunk(targets, dim=1)], beside_normed


def _convolve_merged(stage: Stage, inputs: list[list[Tensor]], stride: int, targets: int, *, groups: int) -> Normed:
    """`inputs`: by operation and source, [N, groups * C, H, W]. Returns [N, T * C, H', W'] of each."""
    channels = stage.pointwise.shape[1]
    width = targets * channels
    pointwise, gains = iter(torch.split(stage.pointwise, width)), torch.split(stage.gains, width)
    norms: list[Norm] = []
    tensors: list[Maps] = []
    for (kernels, dilation), sources in zip(stage.kernels, inputs, strict=True):
        padding = dilation * (kernels.shape[-1] - 1) // 2
        for source, kernel in zip(sources, torch.split(kernels, width), strict=True):
            merged = _merged(kernel, next(pointwise), targets)
            start = stage.start + len(tensors) * width
            norms.append(stage.batch_norm.norm(start, start + width, gain=gains[len(tensors)]))
            tensors.append(F.conv2d(source, merged, None, stride, padding, dilation, groups))
    return Normed(norms, tensors)


def _merged(kernels: Tensor, pointwise: Tensor, targets: int) -> Tensor:
    """[T * C, C, k, k] from depthwise kernels [T * C, 1, k, k] and pointwise ones [T * C, C, 1, 1] after them."""
    channels, size = pointwise.shape[1], kernels.shape[2:]
    product = pointwise.view(targets, channels, channels, 1, 1) * kernels.view(targets, 1, channels, *size)
    return product.reshape(targets * channels, channels, *size)
