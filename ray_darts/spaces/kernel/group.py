"""All operations between the sources and the targets of a group of edges, as one node of the graph (see group.h).

Suffixes: N samples, C channels, H W pixels, E edges (a source's targets together), S sources, T targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.spaces.kernel.group_call import GroupCall, KernelGroup, split
from ray_darts.spaces.kernel.kernel import dense
from ray_darts.spaces.second_derivatives import differentiable_gradients


def apply_group(
    group: KernelGroup, sources: Sequence[Tensor], kernels: Sequence[Tensor], mixing: Sequence[Tensor], weights: Tensor
) -> tuple[Tensor, ...]:
    """The targets [N, C, H / stride, W / stride], rounded up, of the sources [N, C, H, W].

    `kernels`: of each stage [E * C, 1, k, k]; `mixing`: [E * C, C, 1, 1]; `weights` [rows, E]: of the operations in
    the order of first stages, pools, sources.
    """
    targets: tuple[Tensor, ...] = _Group.apply(group, len(sources), *sources, *kernels, *mixing, weights)
    return targets


class _Group(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, group: KernelGroup, num_sources: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        call = GroupCall(group, num_sources, _formatted(num_sources, tensors), tensors[0].shape)
        outputs = [group.kernel.empty_maps(call.output_size, tensors[0].dtype) for _ in range(group.targets)]
        results, statistics = call.memory()
        call.run(results, statistics, outputs=outputs)
        ctx.save_for_backward(*tensors, *results, *statistics)
        ctx.group, ctx.num_sources = group, num_sources  # type: ignore[attr-defined]
        return tuple(outputs)

    @staticmethod
    def backward(ctx: FunctionCtx, *above: Tensor) -> tuple[Tensor | None, ...]:
        group, num_sources = ctx.group, ctx.num_sources  # type: ignore[attr-defined]
        needs = ctx.needs_input_grad[2:]  # type: ignore[attr-defined]
        saved = ctx.saved_tensors  # type: ignore[attr-defined]
        num_kept = len(group.stages) + len(group.pools)
        tensors, results, statistics = saved[: -2 * num_kept], saved[-2 * num_kept : -num_kept], saved[-num_kept:]
        if torch.is_grad_enabled():
            plain = partial(_plain, group, num_sources)
            return None, None, *differentiable_gradients(plain, tensors, above)
        gradients = [
            None
            if not needed
            else group.kernel.empty_maps(each.shape, each.dtype)
            if number < num_sources
            else each.new_empty(each.shape)
            for number, (each, needed) in enumerate(zip(tensors, needs, strict=True))
        ]
        weights = tensors[-1].new_empty(tensors[-1].shape)
        call = GroupCall(group, num_sources, _formatted(num_sources, tensors), tensors[0].shape)
        call.run(results, statistics, above=[dense(each) for each in above], gradients=[*gradients[:-1], weights])
        return None, None, *gradients[:-1], weights if needs[-1] else None


def _formatted(num_sources: int, tensors: Sequence[Tensor]) -> list[Tensor]:
    return [*map(dense, tensors[:num_sources]), *(each.contiguous() for each in tensors[num_sources:])]


def _plain(group: KernelGroup, num_sources: int, *tensors: Tensor) -> Sequence[Tensor]:
    return group.plain(*split(group, num_sources, tensors))
