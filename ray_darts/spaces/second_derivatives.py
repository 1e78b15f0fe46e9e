"""Gradients of nodes with explicit first derivatives, by ordinary operators, so that they can be differentiated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def differentiable_gradients(
    function: Callable[..., Tensor | Sequence[Tensor]], inputs: Sequence[Tensor], above: Tensor | Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """The gradients of `function(*inputs)` in the inputs that require one; None for the others.

    `above`: the gradient of each output.
    """
    # Differentiate in views: one input may depend on another, whose gradient must not include that path.
    views = [tensor.view_as(tensor) for tensor in inputs]
    wanted = [view for view in views if view.requires_grad]
    found = iter(torch.autograd.grad(function(*views), wanted, above, create_graph=True, allow_unused=True))
    return tuple(next(found) if view.requires_grad else None for view in views)
