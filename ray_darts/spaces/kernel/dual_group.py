"""The targets of a group of edges and their tangents, as one node of the graph, for one backward pass through both.

Of y = f(x) and its tangent f'(x) u, let a and b be the gradients that come in. The gradient in u is f'(x)^T b, and in x
it is f'(x)^T a + (f''(x) u)^T b: value and tangent of f's gradient, if b is taken for the value and a for the tangent
of what comes in. So the kernel's own code computes this backward pass too, on numbers with tangents (numbers.h).

Suffixes: N samples, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.spaces import tangents
from ray_darts.spaces.kernel.group_call import GroupCall, KernelGroup
from ray_darts.spaces.kernel.kernel import LANES_BYTES, dense


def apply_dual_group(
    group: KernelGroup, sources: Sequence[Tensor], kernels: Sequence[Tensor], mixing: Sequence[Tensor], weights: Tensor
) -> tuple[Tensor, ...]:
    """`apply_group` to tensors that may carry tangents, within `tangents.carried`; it moves no statistics."""
    given = [*sources, *kernels, *mixing, weights]
    values, moves = [tangents.without(each) for each in given], [tangents.of(each) for each in given]
    with tangents.paused():
        found: tuple[Tensor, ...] = _DualGroup.apply(group, len(sources), *values, *moves)
    targets, moved = found[: group.targets], found[group.targets :]
    return tuple(tangents.moving(target, move) for target, move in zip(targets, moved, strict=True))


class _DualGroup(torch.autograd.Function):
    """The targets and then their tangents, of sources, kernels, mixing and weights and then their tangents."""

    @staticmethod
    def forward(ctx: FunctionCtx, group: KernelGroup, num_sources: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        values, moves = _halves(tensors)
        formats = [_Format(each.shape, number < num_sources) for number, each in enumerate(values[:-1])]
        formats.append(_Format(values[-1].shape, single=True))
        pairs = [form.pair(value, move) for form, value, move in zip(formats, values, moves, strict=True)]
        call = GroupCall(group, num_sources, pairs, values[0].shape, dual=True)
        results, statistics = call.memory()
        of_target = _Format(call.output_size, is_map=True)
        outputs = [of_target.empty(group, values[0].dtype) for _ in range(group.targets)]
        call.run(results, statistics, outputs=outputs)
        ctx.save_for_backward(*pairs, *results, *statistics)
        ctx.group, ctx.formats, ctx.of_target = group, formats, of_target  # type: ignore[attr-defined]
        targets, moved = zip(*map(of_target.parts, outputs), strict=True)
        return *targets, *moved

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: FunctionCtx, *above: Tensor) -> tuple[Tensor | None, ...]:
        group, formats, of_target = ctx.group, ctx.formats, ctx.of_target  # type: ignore[attr-defined]
        saved, num_kept = ctx.saved_tensors, len(group.stages) + len(group.pools)  # type: ignore[attr-defined]
        pairs, results, statistics = saved[: -2 * num_kept], saved[-2 * num_kept : -num_kept], saved[-num_kept:]
        of_targets, of_moved = _halves(above)
        needs = ctx.needs_input_grad[2:]  # type: ignore[attr-defined]
        asked = [any(both) for both in zip(*_halves(needs), strict=True)]
        asked[-1] = True  # the kernel always computes it
        num_sources = sum(form.is_map for form in formats)
        found = [
            form.empty(group, pairs[0].dtype) if wanted else None for form, wanted in zip(formats, asked, strict=True)
        ]
        call = GroupCall(group, num_sources, pairs, formats[0].shape, dual=True)
        call.run(results, statistics, above=list(map(of_target.pair, of_moved, of_targets)), gradients=found)
        parts = [(None, None) if each is None else form.parts(each) for form, each in zip(formats, found, strict=True)]
        of_moves, of_values = zip(*parts, strict=True)
        gradients = [each if need else None for each, need in zip((*of_values, *of_moves), needs, strict=True)]
        return None, None, *gradients


def _halves(both: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    return both[: len(both) // 2], both[len(both) // 2 :]


@dataclass(frozen=True)
class _Format:
    """How the kernel takes a tensor of `shape` and its tangent: vector by vector or, if `single`, number by number."""

    shape: tuple[int, ...]
    is_map: bool = False
    single: bool = False

    def pair(self, value: Tensor, tangent: Tensor | None) -> Tensor:
        """Both in one; a tangent of None is 0."""
        parts = [value, torch.zeros_like(value) if tangent is None else tangent]
        if self.is_map:
            parts = [dense(part).permute(0, 2, 3, 1) for part in parts]
        return torch.stack([part.reshape(-1, self._lanes(value.dtype)) for part in parts], 1)

    def parts(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        """The value and the tangent."""
        value, tangent = pair.view(-1, 2, self._lanes(pair.dtype)).unbind(1)
        if not self.is_map:
            return value.reshape(self.shape), tangent.reshape(self.shape)
        samples, channels, height, width = self.shape
        rows = samples, height, width, channels
        return value.reshape(rows).permute(0, 3, 1, 2), tangent.reshape(rows).permute(0, 3, 1, 2)

    def empty(self, group: KernelGroup, dtype: torch.dtype) -> Tensor:
        """Room for both."""
        return group.kernel.empty(2 * math.prod(self.shape), dtype=dtype)

    def _lanes(self, dtype: torch.dtype) -> int:
        return 1 if self.single else LANES_BYTES // dtype.itemsize
