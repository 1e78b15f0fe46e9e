"""Batch norm over the global batch: a sum over ranks that can be differentiated any number of times.

The derivative of a sum over ranks is a sum over ranks, so the backward pass applies the same function; second
derivatives (the exact Hessian) are therefore correct too. Works with every back end, gloo on CPU included.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ray_darts.tasks.collectives import Collectives


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(collectives: Collectives, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        collectives.sum_(total)
        return total

    @staticmethod
    def setup_context(
        ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Collectives, Tensor], output: Tensor
    ) -> None:
        ctx.collectives = inputs[0]  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[None, Tensor]:
        return None, _SumOverRanks.apply(ctx.collectives, gradient)  # type: ignore[attr-defined]

    @staticmethod
    def jvp(ctx: torch.autograd.function.FunctionCtx, _: None, tangent: Tensor) -> Tensor:
        total: Tensor = _SumOverRanks.apply(ctx.collectives, tangent)  # type: ignore[attr-defined]
        return total


def moments_reducer(collectives: Collectives) -> Callable[[Tensor], Tensor]:
    """Return a differentiable sum over ranks for `spaces.batch_norm`; all ranks call it in the same order."""

    def reduce(moments: Tensor) -> Tensor:
        total: Tensor = _SumOverRanks.apply(collectives, moments)
        return total

    return reduce
