"""The time steps of the search cell, one after the other, and what a backward pass keeps of them. Knows no words.

Suffixes: T time steps, N columns of text, H hidden units, J sources, E edges, K operations, 2H a gate beside a
candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_darts.genotype.genotype import NONE
from ray_darts.spaces.batch_norm import Norm, normalise
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.recurrent.language_model import masked
from ray_darts.spaces.recurrent.operations import Mixture, mixed_highway_


@dataclass(frozen=True)
class Cell:
    """What the time loop needs beside tensors. `norms`: of s0 and of every node; `update`: their running statistics;
    `recompute`: segments of the sequence in the backward pass; `kernel`: computes mixtures on CPUs."""

    operations: tuple[str, ...]
    norms: tuple[Norm, ...]
    update: bool
    recompute: bool = False
    kernel: Kernel | None = None

    def segments(self, length: int) -> list[slice]:
        """Consecutive time steps of a sequence, all of them where nothing is computed again."""
        size = max(1, math.ceil(math.sqrt(length)) if self.recompute else length)
        return [slice(start, min(start + size, length)) for start in range(0, length, size)]

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


class Tape:
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


@dataclass(frozen=True)
class Steps:
    """A forward pass's time steps; `needs`: the inputs of a pass whose gradient is asked for."""

    recurrent_H2H: Tensor
    weights: Sequence[Tensor]
    mixtures: Sequence[Mixture]
    mask_NH: Tensor | None
    cell: Cell
    needs: Sequence[bool]

    def run(self, projected_TN2H: Tensor, state: Tensor, tape: Tape) -> list[Tensor]:
        """The hidden state after each step; what the backward pass needs goes onto `tape`."""
        mask_NH, needs, hidden_states = self.mask_NH, self.needs, []
        mixtures = [Mixture.only("tanh", state), *self.mixtures]
        for projected in projected_TN2H.unbind():
            states = state.new_empty(len(mixtures), *state.shape)
            inputs = states if mask_NH is None else torch.empty_like(states)
            sources, dropped = state.unsqueeze(0), masked(state, mask_NH)
            product = torch.addmm(projected, dropped, self.recurrent_H2H)
            tape.push(dropped)
            rows = inputs.flatten(0, 1)
            for position, (mixture, own, into) in enumerate(
                zip(mixtures, states.unbind(), inputs.unbind(), strict=True)
            ):
                if position:
                    sources = states[:position]
                    product = torch.mm(rows[: position * len(state)], self.weights[position - 1])
                gated = product.to(states.dtype).view(*sources.shape[:2], -1)
                keep_candidates = needs[4] and position > 0
                kernel = self.cell.kernel
                node, excess = mixed_highway_(sources, gated, mixture, kernel, keep_candidates=keep_candidates)
                tape.push(gated, excess)
                tape.normalise_into(own, self.cell, position, node)
                if mask_NH is not None:
                    torch.mul(own, mask_NH, out=into)
            tape.push(states if needs[4] else None, inputs if needs[3] else None)
            state = states[1:].mean(0)
            hidden_states.append(state)
        return hidden_states
