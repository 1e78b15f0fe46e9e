"""Batch norm by the batch's statistics of maps that carry tangents, for one backward pass through both.

With P(u) = u - mean(u) - x' mean(x' u), where x' is the normalised input and means are over rows, both the tangent and
the gradient of y = gain x' are gain / deviation times P of what comes in. So the operator for the gradient computes
the tangent too. Knows no policy.

Suffixes: N samples, C channels; vectors [C] have none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

Projection = Callable[[Tensor, Tensor, Tensor | None, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(u, inputs, gain, mean, 1 / deviation) -> (gain / deviation * P(u), sum of x' u, sum of u)."""

Tangents = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of the inputs, the gain and the bias; None for 0."""


def normalise_moving(inputs_NC: Tensor, gain: Tensor | None, bias: Tensor | None, epsilon: float) -> Tensor:
    """gain * x' + bias of [N, C, ...]; the arguments may carry tangents."""
    output: Tensor = _Normalised.apply(inputs_NC, gain, bias, epsilon)
    return output


def moved(
    inputs_NC: Tensor,
    gain: Tensor | None,
    statistics: tuple[Tensor, Tensor],
    epsilon: float,
    tangents: Tangents,
    projection: Projection,
) -> Tensor | None:
    """The tangent of gain * x' + bias, which can be differentiated once. `statistics`: mean and 1 / deviation."""
    of_inputs, of_gain, of_bias = tangents
    total: Tensor | None = None
    if of_inputs is not None:
        total = _Moved.apply(inputs_NC, of_inputs, gain, *statistics, projection)
    if of_gain is not None or of_bias is not None:
        of_gain = torch.zeros_like(statistics[0]) if of_gain is None else of_gain
        scaled = torch.batch_norm(inputs_NC, of_gain, of_bias, None, None, True, 0.0, epsilon, False)
        total = scaled if total is None else total + scaled
    return total


class _Normalised(torch.autograd.Function):
    """PyTorch's batch norm, whose own tangent would be a dozen operators that keep as many maps."""

    @staticmethod
    def forward(ctx: FunctionCtx, inputs: Tensor, gain: Tensor | None, bias: Tensor | None, epsilon: float) -> Tensor:
        ctx.set_materialize_grads(False)
        output, *statistics = torch.native_batch_norm(inputs, gain, bias, None, None, True, 0.0, epsilon)
        ctx.save_for_backward(inputs, gain, *statistics)  # type: ignore[arg-type]
        ctx.save_for_forward(inputs, gain, *statistics)  # type: ignore[arg-type]
        ctx.projection, ctx.epsilon = native_projection(epsilon), epsilon  # type: ignore[attr-defined]
        return output

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_inputs, of_gain, of_bias = ctx.projection(gradient, *ctx.saved_tensors)  # type: ignore[attr-defined]
        needs = ctx.needs_input_grad  # type: ignore[attr-defined]
        return of_inputs, of_gain if needs[1] else None, of_bias if needs[2] else None, None

    @staticmethod
    def jvp(ctx: FunctionCtx, *tangents: Tensor | None) -> Tensor | None:
        inputs, gain, *statistics = ctx.saved_tensors  # type: ignore[attr-defined]
        given = tangents[0], tangents[1], tangents[2]
        mean, scale = statistics
        return moved(inputs, gain, (mean, scale), ctx.epsilon, given, ctx.projection)  # type: ignore[attr-defined]


def native_projection(epsilon: float) -> Projection:
    """PyTorch's operator."""

    def project(
        u_NC: Tensor, inputs_NC: Tensor, gain: Tensor | None, mean: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
            u_NC, inputs_NC, gain, None, None, mean, scale, True, epsilon, [True, True, True]
        )
        return found

    return project


class _Moved(torch.autograd.Function):
    """gain / deviation * P(tangent of the inputs), and its gradients.

    Let u be the tangent, a the gradient that comes in, m the mean over rows, s = 1 / deviation, k = m(a u) - m(a) m(u)
    - m(x' a) m(x' u). The gradient in the tangent is gain s P(a), in the gain the sum over rows of s k, and in
    the inputs -gain s^2 (P(m(x' u) a + m(x' a) u) + k x').
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        inputs: Tensor,
        tangent: Tensor,
        gain: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        projection: Projection,
    ) -> Tensor:
        output, along, total = projection(tangent, inputs, gain, mean, scale)
        ctx.save_for_backward(inputs, tangent, gain, mean, scale, along, total)  # type: ignore[arg-type]
        ctx.projection = projection  # type: ignore[attr-defined]
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, tangent, gain, mean, scale, along_u, total_u = ctx.saved_tensors  # type: ignore[attr-defined]
        needs, projection = ctx.needs_input_grad, ctx.projection  # type: ignore[attr-defined]
        of_tangent, along_a, total_a = projection(gradient, inputs, gain, mean, scale)
        rows = inputs.numel() // inputs.shape[1]
        along_a, total_a, along_u, total_u = (vector / rows for vector in (along_a, total_a, along_u, total_u))
        dims = [dim for dim in range(inputs.dim()) if dim != 1]
        excess = (gradient * tangent).sum(dims) / rows - total_a * total_u - along_a * along_u
        of_inputs = of_gain = None
        if needs[2]:
            of_gain = excess * scale * rows
        if needs[0]:
            factor = -scale.square() if gain is None else -scale.square() * gain
            slope = factor * (excess - 2 * along_a * along_u) * scale
            shift = -factor * (along_u * total_a + along_a * total_u) - slope * mean
            shape = [1, -1, *[1] * (inputs.dim() - 2)]
            slope, shift, by_a, by_u = (
                vector.view(shape) for vector in (slope, shift, factor * along_u, factor * along_a)
            )
            of_inputs = torch.addcmul(shift, inputs, slope).addcmul_(gradient, by_a).addcmul_(tangent, by_u)
        return of_inputs, of_tangent if needs[1] else None, of_gain, None, None, None
