"""The search cell over a whole sequence as one node of the graph, with explicit first derivatives. Knows no words.

A step calls tens of thousands of small operators, so what autograd adds to each of them counts. Its node keeps of every
edge the gate, the candidate and the gated excess; activations are computed again in the backward pass.

Suffixes: T time steps, N columns of text, H hidden units, I nodes, J sources, E edges, K operations, 2H a gate beside a
candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.genotype.genotype import NONE
from ray_darts.spaces.batch_norm import Norm, normalise
from ray_darts.spaces.recurrent.language_model import masked
from ray_darts.spaces.recurrent.operations import (
    Mixture,
    highway,
    mixed_highway,
    mixed_highway_,
    mixed_highway_gradients,
    mixture_gradients,
    needs_ordinary_operators,
)
from ray_darts.spaces.second_derivatives import differentiable_gradients


@dataclass(frozen=True)
class Cell:
    """What the time loop needs beside tensors. `norms`: of s0 and of every node; `update`: their running statistics."""

    operations: tuple[str, ...]
    norms: tuple[Norm, ...]
    update: bool

    def mixtures(self, probabilities_EK: Tensor) -> list[Mixture]:
        """The mixture of each node: node i has the sources 0..i."""
        rows = torch.split(probabilities_EK, [node + 1 for node in range(len(self.norms) - 1)])
        return [Mixture.of(probabilities_JK, self.operations) for probabilities_JK in rows]

    def table(self, weights: Sequence[Tensor]) -> Tensor:
        """[E, K] from [J, operations except `none`] of each node, 0 for `none`."""
        present = iter(torch.cat(list(weights)).unbind(1))
        empty = weights[0].new_zeros(sum(map(len, weights)))
        return torch.stack([empty if name == NONE else next(present) for name in self.operations], 1)

    def normalise(self, position: int, state_NH: Tensor) -> Tensor:
        """State `position` by the statistics of its columns."""
        return normalise([self.norms[position]], [state_NH], batch_statistics=True, update=self.update)[0]


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
    nodes = list(zip(weights_IH2H.unbind(), cell.mixtures(probabilities_EK), strict=True))
    state = carry_NH
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


class _Tape:
    """What a forward pass keeps of each state, read in reverse order by the backward pass."""

    def __init__(
        self,
        tensors: Sequence[Tensor | None] = (),
        graphs: Sequence[tuple[Tensor, Tensor]] = (),
        *,
        keeps: bool = True,
    ) -> None:
        self.tensors, self.graphs, self.keeps = list(tensors), list(graphs), keeps

    def push(self, *tensors: Tensor | None) -> None:
        """Keep tensors, if a backward pass may come."""
        if self.keeps:
            self.tensors += tensors

    def pop(self, count: int) -> list[Tensor]:
        """The last `count` that were kept, in the order in which they were given."""
        found = self.tensors[-count:]
        del self.tensors[-count:]
        return found  # type: ignore[return-value]

    def normalise_into(self, result_NH: Tensor, cell: Cell, position: int, state_NH: Tensor) -> None:
        """State `position` by the statistics of its columns; those of all ranks are differentiated by autograd."""
        norm = cell.norms[position]
        if norm.module.moments_reducer is None:
            mean, var = norm.running() if cell.update else (None, None)
            momentum, epsilon = norm.module.momentum, norm.module.epsilon
            result, *statistics = torch.native_batch_norm(state_NH, None, None, mean, var, True, momentum, epsilon)
            self.push(state_NH, *statistics)
        else:
            with torch.set_grad_enabled(self.keeps):
                result = cell.normalise(position, state_NH.requires_grad_(self.keeps))
            if self.keeps:
                self.graphs.append((state_NH, result))
        result_NH.copy_(result)

    def normalise_gradient(self, cell: Cell, position: int, gradient_NH: Tensor) -> Tensor:
        """The gradient in what `normalise_into` was last given."""
        norm = cell.norms[position]
        if norm.module.moments_reducer is None:
            state, mean, scale = self.pop(3)
            found: Tensor = torch.ops.aten.native_batch_norm_backward(
                gradient_NH, state, None, None, None, mean, scale, True, norm.module.epsilon, [True, False, False]
            )[0]
            return found
        state, output = self.graphs.pop()
        return torch.autograd.grad(output, state, gradient_NH, retain_graph=True)[0]


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
        tape, weights = _Tape(keeps=any(needs)), weights_IH2H.unbind()
        mixtures = [Mixture.only("tanh", carry_NH), *cell.mixtures(probabilities_EK)]
        state, hidden_states = carry_NH, []
        for projected in projected_TN2H.unbind():
            states = carry_NH.new_empty(len(mixtures), *carry_NH.shape)
            inputs = states if mask_NH is None else torch.empty_like(states)
            sources, dropped = state.unsqueeze(0), masked(state, mask_NH)
            product = torch.addmm(projected, dropped, recurrent_H2H)
            tape.push(dropped)
            rows = inputs.flatten(0, 1)
            for position, (mixture, own, into) in enumerate(
                zip(mixtures, states.unbind(), inputs.unbind(), strict=True)
            ):
                if position:
                    sources = states[:position]
                    product = torch.mm(rows[: position * len(state)], weights[position - 1])
                gated = product.to(states.dtype).view(*sources.shape[:2], -1)
                keep_candidates = needs[4] and position > 0
                node, excess = mixed_highway_(sources, gated, mixture, keep_candidates=keep_candidates)
                tape.push(gated, excess)
                tape.normalise_into(own, cell, position, node)
                if mask_NH is not None:
                    torch.mul(own, mask_NH, out=into)
            tape.push(states if needs[4] else None, inputs if needs[3] else None)
            state = states[1:].mean(0)
            hidden_states.append(state)
        differentiable = projected_TN2H, carry_NH, recurrent_H2H, weights_IH2H, probabilities_EK
        ctx.save_for_backward(*differentiable, mask_NH, *tape.tensors)  # type: ignore[arg-type]
        ctx.cell, ctx.graphs = cell, tape.graphs  # type: ignore[attr-defined]
        return torch.stack(hidden_states)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient_TNH: Tensor) -> tuple[Tensor | None, ...]:
        projected, carry, recurrent, weights, probabilities, mask, *kept = ctx.saved_tensors  # type: ignore[attr-defined]
        cell: Cell = ctx.cell  # type: ignore[attr-defined]
        if torch.is_grad_enabled():
            function = partial(_unroll_plainly, mask_NH=mask, cell=replace(cell, update=False))
            inputs = projected, carry, recurrent, weights, probabilities
            return *differentiable_gradients(function, inputs, gradient_TNH), None, None
        needs: tuple[bool, ...] = ctx.needs_input_grad  # type: ignore[attr-defined]
        tape = _Tape(kept, ctx.graphs)  # type: ignore[attr-defined]
        mixtures = cell.mixtures(probabilities)
        transposed = weights.transpose(1, 2).contiguous().unbind()
        into_weights = torch.zeros_like(weights).unbind() if needs[3] else ()
        into_mixtures: list[list[Tensor]] = [[] for _ in mixtures]
        into_products, all_dropped = [], []
        into_state = torch.zeros_like(carry)
        for word in reversed(range(len(gradient_TNH))):
            states, dropped_states = tape.pop(2)
            into_state = (gradient_TNH[word] + into_state) / len(mixtures)
            into_states = torch.stack([torch.zeros_like(into_state), *[into_state] * len(mixtures)])
            for node in reversed(range(len(mixtures))):
                mixture, sources = mixtures[node], slice(node + 1)
                gradient = tape.normalise_gradient(cell, node + 1, into_states[node + 1])
                gated, excess = tape.pop(2)
                if needs[4]:
                    found = mixture_gradients(gradient, states[sources], gated, excess, mixture)
                else:
                    found = mixed_highway_gradients(gradient, gated, excess)
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
            found = mixed_highway_gradients(gradient, gated, excess)
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


def _add_masked_(total: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    return total.add_(values) if mask is None else total.addcmul_(values, mask)
