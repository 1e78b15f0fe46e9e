"""The gradient of a loss over the global batch: micro-batches and ranks are summed into one flat buffer.

Each rank weights its losses by its share of the global batch, so a sum over ranks is a mean over the global batch.
Knows no optimiser and no batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ray_darts.tasks.flat import FlatVector, ReductionBuffer

Objective = Callable[[bool], Iterator[tuple[Tensor, Tensor]]]
"""objective(full_precision) yields (loss, extras) for each micro-batch: the loss at the current weights and alphas,
weighted by the micro-batch's share of the global batch, and numbers [E] that are summed in the same reduction.
`full_precision`: compute in float32 or better, whatever the precision setting."""

Sum = Callable[[Tensor], None]


def reduced_gradient(objective: Objective, parts: list[FlatVector], num_extras: int, sum_: Sum) -> ReductionBuffer:
    """The gradient of `objective` in all tensors of `parts`, summed over micro-batches and ranks in one collective."""
    buffer = local_gradient(objective, parts, num_extras)
    sum_(buffer.vector)
    return buffer


def local_gradient(
    objective: Objective, parts: list[FlatVector], num_extras: int, *, full_precision: bool = False
) -> ReductionBuffer:
    """This rank's part of the gradient, summed over micro-batches; the objective fills the first extras.

    A loss that depends on none of the tensors has the gradient 0: of sampled operations, all may be `none`.
    """
    buffer = ReductionBuffer(parts, num_extras)
    inputs = [tensor for part in parts for tensor in part.tensors.values()]
    for loss, extras in objective(full_precision):
        if loss.requires_grad:
            buffer.add_(torch.autograd.grad(loss, inputs, allow_unused=True))
        if num_extras:
            buffer.extras[: extras.numel()].add_(extras)
    return buffer
