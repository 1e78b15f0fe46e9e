"""One call of the kernel for a group of edges: its description, and the structures of group.h.

Suffixes: N samples, C channels, H W pixels, E edges (a source's targets together), S sources, T targets.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_darts.spaces.kernel.kernel import Kernel

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


def split(
    group: KernelGroup, num_sources: int, tensors: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], Tensor]:
    """(sources, kernels, mixing, weights)."""
    stop = num_sources + len(group.stages)
    return tensors[:num_sources], tensors[num_sources:stop], tensors[stop:-1], tensors[-1]


class GroupCall:
    """One call of the kernel: group.h's structures, and what they point to.

    `tensors`: sources, kernels, mixing and weights in the kernel's format; `size_NCHW`: of a source; `dual`: the
    numbers have tangents, so that everything takes twice the memory (numbers.h).
    """

    def __init__(
        self,
        group: KernelGroup,
        num_sources: int,
        tensors: Sequence[Tensor],
        size_NCHW: tuple[int, ...],
        *,
        dual: bool = False,
    ) -> None:
        self._group, self._num_sources, self._tensors = group, num_sources, tensors
        self._size, self._dual, self._dtype = size_NCHW, dual, tensors[0].dtype

    @property
    def output_size(self) -> tuple[int, int, int, int]:
        """[N, C, H / stride, W / stride], rounded up."""
        samples, channels, height, width = self._size
        stride = self._group.stride
        return samples, channels, -(-height // stride), -(-width // stride)

    def memory(self) -> tuple[list[Tensor], list[Tensor]]:
        """Results and statistics of stages and pools, not yet written."""
        group, numbers = self._group, 1 + self._dual
        maps = [*[self._num_sources * group.targets] * len(group.stages), *[self._num_sources] * len(group.pools)]
        results = [
            group.kernel.empty(count, numbers * math.prod(self.output_size), dtype=self._dtype) for count in maps
        ]
        statistics = [torch.empty(2, count * self._size[1] * numbers, dtype=self._dtype) for count in maps]
        return results, statistics

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
        samples, channels, height, width = self._size
        sources, all_kernels, all_mixing, weights = split(group, self._num_sources, self._tensors)
        of_inputs, of_kernels, of_mixing, of_weights = split(
            group,
            self._num_sources,
            gradients or [None] * len(self._tensors),  # type: ignore[arg-type]
        )
        stages = [
            _CStage(
                stage.size,
                stage.dilation,
                -1 if stage.next is None else stage.next,
                *map(_pointer, (kernels, mixing, own, *both, *(stage.running or (None, None)), *gradient)),
            )
            for stage, kernels, mixing, own, both, *gradient in zip(
                group.stages, all_kernels, all_mixing, results, statistics, of_kernels, of_mixing, strict=False
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
            self._num_sources,
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
            _pointer(weights),
            *(_pointers(each) for each in (sources, outputs, above, of_inputs)),
            _pointer(of_weights),
        )
        group.kernel.group(structure, self._dtype, gradient=bool(gradients), dual=self._dual)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (_POINTER * len(tensors))(*map(_pointer, tensors))
