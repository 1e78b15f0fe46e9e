"""The convolutions of a group of edges, in one of two formulations of the same function.

`separate`: one call per edge and operation, for CPUs, where each call is large enough. `grouped`: all edges in
grouped convolutions, for GPUs, where launches cost more than arithmetic. Knows no cells.

Suffixes: N samples, C channels, H W pixels, E edges of the group, sorted by source, as many for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ray_darts.spaces.batch_norm import BatchNorm, Norm
from ray_darts.spaces.convolutional.depthwise import depthwise
from ray_darts.spaces.convolutional.operations import Convolution, mix_channels

Normalise = Callable[[Sequence[Norm], Sequence[Tensor]], list[Tensor]]
"""`batch_norm.normalise` with its policy chosen."""


@dataclass(frozen=True)
class Stage:
    """Weights [E, C, 1, k, k] and [E, C, C, 1, 1] of one stage on the group's edges; its batch norm has them from
    feature `start`."""

    depthwise: Tensor
    pointwise: Tensor
    batch_norm: BatchNorm
    start: int


@dataclass(frozen=True)
class Branch:
    """One operation on the group's edges; `gains` [E, C], its alpha weights, multiply what the last stage gives."""

    shape: Convolution
    stages: tuple[Stage, ...]
    gains: Tensor


@dataclass(frozen=True)
class Normed:
    """Tensors and the norms that are to be applied to them."""

    norms: list[Norm]
    tensors: list[Tensor]


Formulation = Callable[[list[Tensor], list[Branch], int, Normalise, Normed], tuple[list[list[Tensor]], list[Tensor]]]
"""(positives, branches, stride, normalise, beside) -> (terms, normalised).

`positives`: the sources [N, C, H, W] after ReLU; `beside`: what else is normalised at the depth of the first stage,
so that synchronised statistics share a collective, returned as `normalised`; `terms[e]`: tensors [N, C, H', W'] whose
sum is edge e's mixture of all branches.
"""


def separate(
    positives: list[Tensor], branches: list[Branch], stride: int, normalise: Normalise, beside: Normed
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """One depthwise, one pointwise convolution and one batch norm per edge, branch and stage."""
    edges = len(branches[0].gains)
    sources = [positive for positive in positives for _ in range(edges // len(positives))]
    first = [_convolve_each(branch, 0, sources, stride) for branch in branches]
    normed = normalise(
        [*beside.norms, *(norm for work in first for norm in work.norms)],
        [*beside.tensors, *(tensor for work in first for tensor in work.tensors)],
    )
    beside_normed, normed = normed[: len(beside.norms)], normed[len(beside.norms) :]
    outputs = [normed[index * edges : (index + 1) * edges] for index in range(len(branches))]
    repeated = [index for index, branch in enumerate(branches) if len(branch.stages) == 2]
    if repeated:
        second = [_convolve_each(branches[i], 1, [F.relu(x) for x in outputs[i]], 1) for i in repeated]
        normed = normalise(
            [norm for work in second for norm in work.norms], [tensor for work in second for tensor in work.tensors]
        )
        for position, index in enumerate(repeated):
            outputs[index] = normed[position * edges : (position + 1) * edges]
    return [list(terms) for terms in zip(*outputs, strict=True)], beside_normed


def _convolve_each(branch: Branch, index: int, positives: list[Tensor], stride: int) -> Normed:
    stage, last = branch.stages[index], index + 1 == len(branch.stages)
    channels = branch.gains.shape[1]
    gains = branch.gains.unbind() if last else [None] * len(positives)
    norms, tensors = [], []
    weights = zip(positives, stage.depthwise.unbind(), stage.pointwise.unbind(), gains, strict=True)
    for edge, (positive, kernel, pointwise, gain) in enumerate(weights):
        start = stage.start + edge * channels
        tensors.append(mix_channels(depthwise(positive, kernel, stride, branch.shape.dilation), pointwise))
        norms.append(stage.batch_norm.norm(start, start + channels, gain=gain))
    return Normed(norms, tensors)


def grouped(
    positives: list[Tensor], branches: list[Branch], stride: int, normalise: Normalise, beside: Normed
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """One depthwise call per branch and stage, one pointwise call per stage: the edges, and for pointwise
    convolutions the branches too, are groups."""
    edges, channels = branches[0].gains.shape
    sources = torch.cat([positive.repeat(1, edges // len(positives), 1, 1) for positive in positives], dim=1)
    width = edges * channels
    first = [
        depthwise(sources, branch.stages[0].depthwise.flatten(0, 1), stride, branch.shape.dilation)
        for branch in branches
    ]
    raw = _mix_grouped(first, [branch.stages[0] for branch in branches], edges)
    norms = [_wide_norm(branch, 0) for branch in branches]
    normed = normalise([*beside.norms, *norms], [*beside.tensors, *raw])
    beside_normed, outputs = normed[: len(beside.norms)], normed[len(beside.norms) :]
    repeated = [index for index, branch in enumerate(branches) if len(branch.stages) == 2]
    if repeated:
        second = [
            depthwise(F.relu(outputs[i]), branches[i].stages[1].depthwise.flatten(0, 1), 1, branches[i].shape.dilation)
            for i in repeated
        ]
        raw = _mix_grouped(second, [branches[i].stages[1] for i in repeated], edges)
        for index, output in zip(repeated, normalise([_wide_norm(branches[i], 1) for i in repeated], raw), strict=True):
            outputs[index] = output
    total = outputs[0]
    for output in outputs[1:]:
        total = total + output
    assert total.shape[1] == width
    return [[term] for term in total.chunk(edges, dim=1)], beside_normed


def _mix_grouped(tensors: list[Tensor], stages: list[Stage], edges: int) -> list[Tensor]:
    """Pointwise convolutions of all branches in one call with branches x edges groups."""
    weights = torch.cat([stage.pointwise for stage in stages]).flatten(0, 1)
    mixed = F.conv2d(torch.cat(tensors, dim=1), weights, groups=edges * len(stages))
    return list(mixed.chunk(len(stages), dim=1))


def _wide_norm(branch: Branch, index: int) -> Norm:
    stage, last = branch.stages[index], index + 1 == len(branch.stages)
    stop = stage.start + branch.gains.numel()
    return stage.batch_norm.norm(stage.start, stop, gain=branch.gains.flatten() if last else None)
