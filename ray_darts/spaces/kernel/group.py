"""All operations between the sources and the targets of a group of edges, as one node of the graph (see group.h).

Suffixes: N samples, C channels, H W pixels, E edges (a source's targets together), S sources, T targets.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.spaces.kernel.kernel import Kernel, dense
from ray_darts.spaces.second_derivatives import differentiable_gradients

_LONG, _POINTER, _DOUBLE = ctypes.c_long, ctypes.c_void_p, ctypes.c_double
_STAGE_TENSORS = (
    "kernels",
    "mixing",
    "results",
    "mean",
    "scale",
    "running_mean",
    "running_var",
    "of_kernels",
    "of_mixing",
)
_POOL_TENSORS = ("results", "mean", "scale", "running_mean", "running_var")


class _CStage(ctypes.Structure):
    _fields_ = [
        *((name, _LONG) for name in ("size", "dilation", "next")),
        *((name, _POINTER) for name in _STAGE_TENSORS),
    ]


class _CPool(ctypes.Structure):
    _fields_ = [("is_max", _LONG), *((name, _POINTER) for name in _POOL_TENSORS)]


class _CGroup(ctypes.Structure):
    _fields_ = [
        *((name, _LONG) for name in ("samples", "height", "width", "channels", "stride", "sources", "targets")),
        *((name, _LONG) for name in ("threads", "num_first", "num_second", "num_pools", "skips")),
        *((name, _DOUBLE) for name in ("momentum", "epsilon")),
        ("stages", ctypes.POINTER(_CStage)),
        ("pools", ctypes.POINTER(_CPool)),
        ("weights", _POINTER),
        *((name, ctypes.POINTER(_POINTER)) for name in ("inputs", "outputs", "above", "of_inputs")),
        ("of_weights", _POINTER),
    ]


@dataclass(frozen=True)
class KernelStage:
    """One depthwise and pointwise convolution with a batch norm, on all edges. `next`: the index of the stage after it
    among all stages, or None; `running`: mean and variance [E * C] that move, or None."""

    size: int
    dilation: int
    next: int | None
    running: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class KernelPool:
    """A 3x3 pool of all sources with a batch norm; `running`: as of a stage, [S * C]."""

    is_max: bool
    running: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class KernelGroup:
    """What a group of edges computes: stages (first ones, then second ones), pools and, with `skips`, the sources
    themselves.

    `plain`: the same function of the node's tensors by PyTorch, without moving statistics, for second derivatives.
    """

    kernel: Kernel
    stages: tuple[KernelStage, ...]
    num_first: int
    pools: tuple[KernelPool, ...]
    skips: bool
    stride: int
    targets: int
    momentum: float
    epsilon: float
    plain: Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], Tensor], Sequence[Tensor]]

    def apply(
        self, sources: Sequence[Tensor], kernels: Sequence[Tensor], mixing: Sequence[Tensor], weights: Tensor
    ) -> tuple[Tensor, ...]:
        """The targets [N, C, H / stride, W / stride], rounded up, of the sources [N, C, H, W].

        `kernels`: of each stage [E * C, 1, k, k]; `mixing`: [E * C, C, 1, 1]; `weights` [rows, E]: of the operations in
        the order of first stages, pools, sources.
        """
        targets: tuple[Tensor, ...] = _Group.apply(self, len(sources), *sources, *kernels, *mixing, weights)
        return targets


class _Group(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, group: KernelGroup, num_sources: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        call = _Call(group, num_sources, tensors)
        samples, channels, height, width = call.sources[0].shape
        size = samples, channels, -(-height // group.stride), -(-width // group.stride)
        like = call.sources[0]
        outputs = [group.kernel.empty_maps(size, like.dtype) for _ in range(group.targets)]
        maps = [*[num_sources * group.targets] * len(group.stages), *[num_sources] * len(group.pools)]
        results = [group.kernel.empty(count, outputs[0].numel(), dtype=like.dtype) for count in maps]
        statistics = [like.new_empty(2, count * channels) for count in maps]
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
        call = _Call(group, num_sources, tensors)
        gradients = [
            None
            if not needed
            else group.kernel.empty_maps(each.shape, each.dtype)
            if number < num_sources
            else torch.empty_like(each)
            for number, (each, needed) in enumerate(zip(call.tensors, needs, strict=True))
        ]
        weights = torch.empty_like(call.tensors[-1])
        call.run(results, statistics, above=[dense(each) for each in above], gradients=[*gradients[:-1], weights])
        return None, None, *gradients[:-1], weights if needs[-1] else None


def _plain(group: KernelGroup, num_sources: int, *tensors: Tensor) -> Sequence[Tensor]:
    return group.plain(*_split(group, num_sources, tensors))


def _split(
    group: KernelGroup, num_sources: int, tensors: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], Tensor]:
    """(sources, kernels, mixing, weights)."""
    stop = num_sources + len(group.stages)
    return tensors[:num_sources], tensors[num_sources:stop], tensors[stop:-1], tensors[-1]


class _Call:
    """One call of the kernel: group.h's structures, and what they point to."""

    def __init__(self, group: KernelGroup, num_sources: int, tensors: Sequence[Tensor]) -> None:
        self._group = group
        self.tensors = [*map(dense, tensors[:num_sources]), *(each.contiguous() for each in tensors[num_sources:])]
        self.sources, self._kernels, self._mixing, self._weights = _split(group, num_sources, self.tensors)

    def run(
        self,
        results: Sequence[Tensor],
        statistics: Sequence[Tensor],
        *,
        outputs: Sequence[Tensor] = (),
        above: Sequence[Tensor] = (),
        gradients: Sequence[Tensor | None] = (),
    ) -> None:
        """Compute `outputs`; or from those `above` the gradients of the tensors, as far as they are not None.

        `results`, `statistics`: of stages and pools, written by the first and read by the second.
        """
        group = self._group
        samples, channels, height, width = self.sources[0].shape
        of_inputs, of_kernels, of_mixing, of_weights = _split(
            group,
            len(self.sources),
            gradients or [None] * len(self.tensors),  # type: ignore[arg-type]
        )
        stages = [
            _CStage(
                stage.size,
                stage.dilation,
                -1 if stage.next is None else stage.next,
                *map(_pointer, (kernels, mixing, own, *both, *(stage.running or (None, None)), *gradient)),
            )
            for stage, kernels, mixing, own, both, *gradient in zip(
                group.stages, self._kernels, self._mixing, results, statistics, of_kernels, of_mixing, strict=False
            )
        ]
        own = zip(group.pools, results[len(stages) :], statistics[len(stages) :], strict=True)
        pools = [
            _CPool(pool.is_max, *map(_pointer, (result, *both, *(pool.running or (None, None)))))
            for pool, result, both in own
        ]
        structure = _CGroup(
            samples,
            height,
            width,
            channels,
            group.stride,
            len(self.sources),
            group.targets,
            torch.get_num_threads(),
            group.num_first,
            len(stages) - group.num_first,
            len(pools),
            group.skips,
            group.momentum,
            group.epsilon,
            (_CStage * len(stages))(*stages),
            (_CPool * len(pools))(*pools),
            _pointer(self._weights),
            *(_pointers(each) for each in (self.sources, outputs, above, of_inputs)),
            _pointer(of_weights),
        )
        group.kernel.group(structure, self.sources[0].dtype, gradient=bool(gradients))


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (_POINTER * len(tensors))(*map(_pointer, tensors))
