"""Candidate activations of a recurrent cell, alone and mixed. Knows no weights, no time and no dropout.

Suffixes: J sources, N columns of text, H hidden units, K operations, 2H a gate beside a candidate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.spaces import tangents


@dataclass(frozen=True)
class Activation:
    """An elementwise function f; `slope(f(h))` is its derivative at h, of h's shape or a scalar."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _tanh(candidate: Tensor) -> Tensor:
    """2 sigmoid(2h) - 1: on a CPU, PyTorch's tanh takes as long as six of its sigmoids."""
    return torch.rsub(torch.sigmoid(candidate + candidate), -1, alpha=-2)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(_tanh, lambda value: 1 - value.square()),
    "relu": Activation(torch.relu, torch.sign),
    "sigmoid": Activation(torch.sigmoid, lambda value: value - value.square()),
    "identity": Activation(lambda candidate: candidate, lambda value: value.new_ones(())),
}
"""Every operation of the space except `none`, which is zero."""


def highway(state_H: Tensor, gated_2H: Tensor, operation: str) -> Tensor:
    """s + c * (f(h) - s) with [c, h] = `gated_2H`, c through a sigmoid."""
    gate, candidate = gated_2H.chunk(2, dim=-1)
    return state_H + torch.sigmoid(gate) * (ACTIVATIONS[operation].value(candidate) - state_H)


def mixed_highway(
    states_JNH: Tensor, gated_JN2H: Tensor, probabilities_JK: Tensor, operations: tuple[str, ...]
) -> Tensor:
    """A node [N, H]: the sum over sources and operations of p_jk (s_j + c_j (f_k(h_j) - s_j)), `none` left out.

    Equals, with P_j the sum of p_jk over the operations except `none`, the sum over j of
    P_j s_j + c_j (sum_k p_jk f_k(h_j) - P_j s_j): one gate and one blend per source for any number of operations.
    First derivatives are explicit; autograd computes second derivatives.
    """
    if tangents.are_carried():
        return _plain_mixed_highway(states_JNH, gated_JN2H, probabilities_JK, operations)
    node: Tensor = _MixedHighway.apply(states_JNH, gated_JN2H, probabilities_JK, operations)
    return node


def _plain_mixed_highway(
    states_JNH: Tensor, gated_JN2H: Tensor, probabilities_JK: Tensor, operations: tuple[str, ...]
) -> Tensor:
    gate, candidate = gated_JN2H.chunk(2, dim=-1)
    kept = _mass(probabilities_JK, operations) * states_JNH
    blend = torch.stack([p * ACTIVATIONS[name].value(candidate) for name, p in _present(probabilities_JK, operations)])
    return (kept + torch.sigmoid(gate) * (blend.sum(0) - kept)).sum(0)


def _present(probabilities_JK: Tensor, operations: tuple[str, ...]) -> list[tuple[str, Tensor]]:
    """(name, p_k [J, 1, 1]) of every operation except `none`."""
    columns = probabilities_JK.unsqueeze(-1).unsqueeze(-1).unbind(1)
    return [(name, p) for name, p in zip(operations, columns, strict=True) if name != "none"]


def _mass(probabilities_JK: Tensor, operations: tuple[str, ...]) -> Tensor:
    """P [J, 1, 1]: the probability of all operations except `none`."""
    return torch.stack([p for _, p in _present(probabilities_JK, operations)]).sum(0)


class _MixedHighway(torch.autograd.Function):
    """`mixed_highway` in few passes over memory: autograd would keep one tensor per arithmetic operation."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        states_JNH: Tensor,
        gated_JN2H: Tensor,
        probabilities_JK: Tensor,
        operations: tuple[str, ...],
    ) -> Tensor:
        gate, candidate = gated_JN2H.chunk(2, dim=-1)
        gate = torch.sigmoid(gate)
        kept = _mass(probabilities_JK, operations) * states_JNH
        values = []
        excess = -kept
        for name, p in _present(probabilities_JK, operations):
            values.append(ACTIVATIONS[name].value(candidate))
            excess.addcmul_(values[-1], p)
        ctx.operations = operations  # type: ignore[attr-defined]
        ctx.save_for_backward(states_JNH, gated_JN2H, probabilities_JK, gate, excess, *values)
        return kept.addcmul_(gate, excess).sum(0)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient_NH: Tensor) -> tuple[Tensor | None, ...]:
        operations: tuple[str, ...] = ctx.operations  # type: ignore[attr-defined]
        states, gated, probabilities, gate, excess, *values = ctx.saved_tensors  # type: ignore[attr-defined]
        if torch.is_grad_enabled():
            # Differentiate in views: `gated` depends on `states`, whose gradient must not include that path.
            inputs = states.view_as(states), gated.view_as(gated), probabilities.view_as(probabilities)
            node = _plain_mixed_highway(*inputs, operations)
            return *torch.autograd.grad(node, inputs, gradient_NH, create_graph=True), None
        present = _present(probabilities, operations)
        into_blend = gradient_NH * gate
        into_kept = gradient_NH - into_blend
        into_probabilities = None
        if wants_gradient(ctx, 2):
            shared = (into_kept * states).sum((1, 2))
            each = iter([(into_blend * value).sum((1, 2)) + shared for value in values])
            columns = [torch.zeros_like(shared) if name == "none" else next(each) for name in operations]
            into_probabilities = torch.stack(columns, dim=1)
        width = states.shape[-1]
        slope = torch.zeros_like(states)
        for (name, p), value in zip(present, values, strict=True):
            slope.addcmul_(ACTIVATIONS[name].slope(value), p)
        into_gated = torch.empty_like(gated)
        torch.mul(into_blend, slope, out=into_gated[..., width:])
        torch.mul(excess.mul(gradient_NH), ACTIVATIONS["sigmoid"].slope(gate), out=into_gated[..., :width])
        return into_kept.mul_(_mass(probabilities, operations)), into_gated, into_probabilities, None


def wants_gradient(ctx: FunctionCtx, index: int) -> bool:
    """Whether the current backward pass needs the gradient of input `index`; always True for a leaf.

    `needs_input_grad` is True if any pass may need it; the alpha step needs alphas only, the weight step weights.
    """
    node = ctx.next_functions[index][0]  # type: ignore[attr-defined]
    if node is None or node.name() == "torch::autograd::AccumulateGrad":
        return node is not None
    return bool(torch._C._will_engine_execute_node(node))
