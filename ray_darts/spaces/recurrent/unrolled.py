"""The search cell over a whole sequence as one node of the graph, with explicit first derivatives. Knows no words.

A step calls tens of thousands of small operators, so what autograd adds to each of them counts. Its node keeps of every
edge the gate, the candidate and the gated excess; activations are computed again in the backward pass. With
`operation.checkpoint_cells` it keeps one state for each segment of √T time steps, and that pass computes one segment
after the other again: with the same bits, but where statistics that are moved (a weight step) are synchronised.

Suffixes: T time steps, N columns of text, H hidden units, I nodes, J sources, E edges, K operations, 2H a gate beside a
candidate.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.spaces.recomputing import RecomputableCell, recomputed
from ray_darts.spaces.recurrent.language_model import masked
from ray_darts.spaces.recurrent.operations import (
    highway,
    mixed_highway,
    mixed_highway_gradients,
    mixture_gradients,
    needs_ordinary_operators,
)
from ray_darts.spaces.recurrent.steps import Cell, Steps, Tape
from ray_darts.spaces.second_derivatives import differentiable_gradients


def unroll(
    projected_TN2H: Tensor,
    carry_NH: Tensor,
    recurrent_H2H: Tensor,
    weights_IH2H: Tensor,
    probabilities_EK: Tensor,
    mask_NH: Tensor | None,
    cell: Cell,
) -> Tensor:
    """The hidden states [T, N, H] after each time step, from the projected inputs and the hidden state before."""
    inputs = projected_TN2H, carry_NH, recurrent_H2H, weights_IH2H, probabilities_EK
    synchronised = cell.norms[0].module.moments_reducer is not None
    # A single column has no variance; with synchronised statistics all ranks must choose alike.
    if (len(carry_NH) < 2 and not synchronised) or needs_ordinary_operators():
        return _unroll_plainly(*inputs, mask_NH, cell)
    keeps = torch.is_grad_enabled()
    states: Tensor = _Unrolled.apply(*(x if keeps else x.detach() for x in inputs), mask_NH, cell)
    return states


def _unroll_plainly(
    projected_TN2H: Tensor,
    carry_NH: Tensor,
    recurrent_H2H: Tensor,
    weights_IH2H: Tensor,
    probabilities_EK: Tensor,
    mask_NH: Tensor | None,
    cell: Cell,
) -> Tensor:
    """The same, made of ordinary operators."""
    others = recurrent_H2H, weights_IH2H, probabilities_EK, mask_NH, cell
    segment, state, hidden_states = _PlainSegment(), carry_NH, []
    for steps in cell.segments(len(projected_TN2H)):
        inputs = projected_TN2H[steps], state, *others
        hidden_states.append(recomputed(segment, *inputs) if cell.recompute else segment(*inputs))
        state = hidden_states[-1][-1]
    return torch.cat(hidden_states)


class _PlainSegment(RecomputableCell):
    """Consecutive time steps of `_unroll_plainly`."""

    def forward(
        self,
        projected_TN2H: Tensor,
        state: Tensor,
        recurrent_H2H: Tensor,
        weights_IH2H: Tensor,
        probabilities_EK: Tensor,
        mask_NH: Tensor | None,
        cell: Cell,
    ) -> Tensor:
        if self.is_recomputing:
            cell = replace(cell, norms=tuple(replace(norm, on_copies=True) for norm in cell.norms))
        nodes = list(zip(weights_IH2H.unbind(), cell.mixtures(probabilities_EK), strict=True))
        hidden_states = []
        for gated in projected_TN2H.unbind():
            gated = torch.addmm(gated, masked(state, mask_NH), recurrent_H2H)
            states = cell.normalise(0, highway(state, gated, "tanh")).unsqueeze(0)
            for position, (weight, mixture) in enumerate(nodes, start=1):
                gated = torch.matmul(masked(states, mask_NH), weight)
                node = cell.normalise(position, mixed_highway(states, gated, mixture))
                states = torch.cat([states, node.unsqueeze(0)])
            state = states[1:].mean(0)
            hidden_states.append(state)
        return torch.stack(hidden_states)


class _Unrolled(torch.autograd.Function):
    """`_unroll_plainly`; second derivatives are those of it, from a second forward pass."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        projected_TN2H: Tensor,
        carry_NH: Tensor,
        recurrent_H2H: Tensor,
        weights_IH2H: Tensor,
        probabilities_EK: Tensor,
        mask_NH: Tensor | None,
        cell: Cell,
    ) -> Tensor:
        needs = ctx.needs_input_grad  # type: ignore[attr-defined]
        steps = Steps(recurrent_H2H, weights_IH2H.unbind(), cell.mixtures(probabilities_EK), mask_NH, cell, needs)
        tape, starts = Tape(keeps=any(needs) and not cell.recompute), Tape(keeps=any(needs) and cell.recompute)
        hidden_states = [carry_NH]
        for segment in cell.segments(len(projected_TN2H)):
            starts.push(hidden_states[-1])
            hidden_states += steps.run(projected_TN2H[segment], hidden_states[-1], tape)
        differentiable = projected_TN2H, carry_NH, recurrent_H2H, weights_IH2H, probabilities_EK
        ctx.save_for_backward(*differentiable, mask_NH, *starts.tensors, *tape.tensors)  # type: ignore[arg-type]
        ctx.cell, ctx.graphs = cell, tape.graphs  # type: ignore[attr-defined]
        ctx.same_precision = _same_precision(carry_NH.device.type)  # type: ignore[attr-defined]
        return torch.stack(hidden_states[1:])

    @staticmethod
    def backward(ctx: FunctionCtx, gradient_TNH: Tensor) -> tuple[Tensor | None, ...]:
        projected, carry, recurrent, weights, probabilities, mask, *kept = ctx.saved_tensors  # type: ignore[attr-defined]
        cell: Cell = ctx.cell  # type: ignore[attr-defined]
        if torch.is_grad_enabled():
            function = partial(_unroll_plainly, mask_NH=mask, cell=replace(cell, update=False))
            inputs = projected, carry, recurrent, weights, probabilities
            return *differentiable_gradients(function, inputs, gradient_TNH), None, None
        needs: tuple[bool, ...] = ctx.needs_input_grad  # type: ignore[attr-defined]
        tape = Tape(() if cell.recompute else kept, ctx.graphs)  # type: ignore[attr-defined]
        mixtures = cell.mixtures(probabilities)
        segments = cell.segments(len(gradient_TNH))
        steps = Steps(recurrent, weights.unbind(), mixtures, mask, replace(cell, update=False), needs)
        transposed = weights.transpose(1, 2).contiguous().unbind()
        into_weights = torch.zeros_like(weights).unbind() if needs[3] else ()
        into_mixtures: list[list[Tensor]] = [[] for _ in mixtures]
        into_products, all_dropped = [], []
        into_state = torch.zeros_like(carry)
        for word in reversed(range(len(gradient_TNH))):
            if cell.recompute and segments and word + 1 == segments[-1].stop:
                segment = segments.pop()
                with ctx.same_precision():  # type: ignore[attr-defined]
                    steps.run(projected[segment], kept[len(segments)], tape)
            states, dropped_states = tape.pop(2)
            into_state = (gradient_TNH[word] + into_state) / len(mixtures)
            into_states = torch.stack([torch.zeros_like(into_state), *[into_state] * len(mixtures)])
            for node in reversed(range(len(mixtures))):
                mixture, sources = mixtures[node], slice(node + 1)
                gradient = tape.normalise_gradient(cell, node + 1, into_states[node + 1])
                gated, excess = tape.pop(2)
                if needs[4]:
                    found = mixture_gradients(gradient, states[sources], gated, excess, mixture, cell.kernel)
                else:
                    found = mixed_highway_gradients(gradient, gated, excess, cell.kernel)
                into_product = found.gated.flatten(0, 1)
                into_dropped = torch.mm(into_product, transposed[node]).view_as(found.kept)
                _add_masked_(into_states[sources].addcmul_(found.kept, mixture.mass), into_dropped, mask)
                if found.weights is not None:
                    into_mixtures[node].append(found.weights)
                if into_weights:
                    dropped = dropped_states[sources].flatten(0, 1)
                    torch.addmm(into_weights[node], dropped.t(), into_product, out=into_weights[node])
            if word == 0 and not any(needs[:3]):
                break
            gradient = tape.normalise_gradient(cell, 0, into_states[0])
            dropped, gated, excess = tape.pop(3)
            found = mixed_highway_gradients(gradient, gated, excess, cell.kernel)
            into_state = _add_masked_(found.kept[0], torch.mm(found.gated[0], recurrent.t()), mask)
            into_products.append(found.gated[0])
            all_dropped.append(dropped)
        return (
            torch.stack(into_products[::-1]) if needs[0] else None,
            into_state if needs[1] else None,
            torch.mm(torch.cat(all_dropped).t(), torch.cat(into_products)) if needs[2] else None,
            torch.stack(into_weights) if into_weights else None,
            cell.table([torch.stack(each).sum(0) for each in into_mixtures]) if needs[4] else None,
            None,
            None,
        )


def _same_precision(device_type: str) -> Callable[[], AbstractContextManager[object]]:
    """Makes contexts with the autocast of now: a backward pass runs without it. None on devices that only count."""
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext
    dtype, enabled = torch.get_autocast_dtype(device_type), torch.is_autocast_enabled(device_type)
    return partial(torch.autocast, device_type, dtype, enabled)


def _add_masked_(total: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    return total.add_(values) if mask is None else total.addcmul_(values, mask)
