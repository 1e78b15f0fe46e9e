"""Candidate activations of a recurrent cell, alone and mixed. Knows no weights, no time and no dropout.

Suffixes: J sources, N columns of text, H hidden units, K operations, 2H a gate beside a candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ray_darts.genotype.genotype import NONE
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.mixing import add_up


@dataclass(frozen=True)
class Activation:
    """An elementwise function f; `slope(f(h), p)` is p times its derivative at h, where constant of p's shape."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]


def _tanh(candidate: Tensor) -> Tensor:
    """2 sigmoid(2h) - 1: on AMD's CPUs, PyTorch's tanh takes as long as six of its sigmoids."""
    return torch.rsub(torch.sigmoid(candidate + candidate), -1, alpha=-2)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(_tanh, lambda value, p: torch.ops.aten.tanh_backward(p, value)),
    "relu": Activation(torch.relu, lambda value, p: torch.ops.aten.threshold_backward(p, value, 0)),
    "sigmoid": Activation(torch.sigmoid, lambda value, p: torch.ops.aten.sigmoid_backward(p, value)),
    "identity": Activation(lambda candidate: candidate, lambda value, p: p),
}
"""Every operation of the space except `none`, which is zero."""


def highway(state_H: Tensor, gated_2H: Tensor, operation: str) -> Tensor:
    """s + c * (f(h) - s) with [c, h] = `gated_2H`, c through a sigmoid."""
    gate, candidate = gated_2H.chunk(2, dim=-1)
    return state_H + torch.sigmoid(gate) * (ACTIVATIONS[operation].value(candidate) - state_H)


@dataclass(frozen=True)
class Mixture:
    """The weights of a node's candidates. `weights`: (operation, p_k [J, 1, 1]) of every operation except `none`;
    `mass`: their sum P."""

    weights: tuple[tuple[str, Tensor], ...]
    mass: Tensor

    @cached_property
    def columns(self) -> Tensor:
        """[J, 4]: the weight of each of ACTIVATIONS, 0 where it is not a candidate."""
        present = dict(self.weights)
        nothing = torch.zeros_like(self.mass)
        return torch.stack([present.get(name, nothing).flatten() for name in ACTIVATIONS], 1)

    def of_candidates(self, columns_J4: Tensor) -> Tensor:
        """Those of `columns_J4`, one for each of ACTIVATIONS, that belong to the candidates, in their order."""
        names, all_names = [name for name, _ in self.weights], list(ACTIVATIONS)
        return columns_J4 if names == all_names else columns_J4[:, [all_names.index(name) for name in names]]

    @classmethod
    def of(cls, probabilities_JK: Tensor, operations: Sequence[str]) -> Mixture:
        """The weights in the columns of `operations`."""
        columns = probabilities_JK.unsqueeze(-1).unsqueeze(-1).unbind(1)
        present = tuple((name, p) for name, p in zip(operations, columns, strict=True) if name != NONE)
        return cls(present, torch.stack([p for _, p in present]).sum(0))

    @classmethod
    def only(cls, operation: str, like: Tensor) -> Mixture:
        """One source with one operation."""
        one = like.new_ones(1, 1, 1)
        return cls(((operation, one),), one)


def mixed_highway(states_JNH: Tensor, gated_JN2H: Tensor, mixture: Mixture) -> Tensor:
    """A node [N, H]: the sum over sources and operations of p_jk (s_j + c_j (f_k(h_j) - s_j)), `none` left out.

    Equals, with P_j the sum of p_jk over the operations except `none`, the sum over j of
    P_j s_j + c_j (sum_k p_jk f_k(h_j) - P_j s_j): one gate and one blend per source for any number of operations.
    """
    gate, candidate = gated_JN2H.chunk(2, dim=-1)
    kept = mixture.mass * states_JNH
    mixed = torch.stack([p * ACTIVATIONS[name].value(candidate) for name, p in mixture.weights]).sum(0)
    return (kept + torch.sigmoid(gate) * (mixed - kept)).sum(0)


def mixed_highway_(
    states_JNH: Tensor, gated_JN2H: Tensor, mixture: Mixture, kernel: Kernel | None = None, *, keep_candidates: bool
) -> tuple[Tensor, Tensor]:
    """`mixed_highway`, and the gated excess c_j (sum_k p_jk f_k(h_j) - P_j s_j) [J, N, H].

    Leaves in `gated_JN2H` what the derivatives need: c through the sigmoid, and beside it the candidates h or, without
    `keep_candidates`, the derivative of the node in them over that of the node in the gated blend. `kernel`: computes
    it, and what follows, for the tensors that it supports, with other last bits.
    """
    if kernel is not None and kernel.supports(gated_JN2H):
        return kernel.highway_(states_JNH, gated_JN2H, mixture.columns, keep_candidates=keep_candidates)
    gate, candidate = gated_JN2H.chunk(2, dim=-1)
    gate.sigmoid_()
    kept = mixture.mass * states_JNH
    excess, slopes = -kept, []
    for name, p in mixture.weights:
        value = ACTIVATIONS[name].value(candidate)
        excess.addcmul_(value, p)
        if not keep_candidates:
            slopes.append(ACTIVATIONS[name].slope(value, p))
    excess.mul_(gate)
    if not keep_candidates:
        torch.mul(gate, add_up(slopes), out=candidate)
    return kept.add_(excess).sum(0), excess


@dataclass(frozen=True)
class HighwayGradients:
    """Of one node: d/d(P_j s_j) [J, N, H], d/d[c, h] before the sigmoid [J, N, 2H], and d/dp of each operation except
    `none` [J, operations] where it was asked for."""

    kept: Tensor
    gated: Tensor
    weights: Tensor | None = None


def mixed_highway_gradients(
    gradient_NH: Tensor, gated_JN2H: Tensor, excess_JNH: Tensor, kernel: Kernel | None = None
) -> HighwayGradients:
    """First derivatives from what `mixed_highway_` left without the candidates."""
    if kernel is not None and kernel.supports(gated_JN2H):
        return HighwayGradients(*kernel.highway_gradient(gradient_NH, gated_JN2H, excess_JNH))
    gate, slope = gated_JN2H.chunk(2, dim=-1)
    gradients = torch.empty_like(gated_JN2H)
    into_gate, into_candidate = gradients.chunk(2, dim=-1)
    kept = torch.addcmul(gradient_NH, gradient_NH, gate, value=-1)
    torch.mul(kept, excess_JNH, out=into_gate)
    torch.mul(gradient_NH, slope, out=into_candidate)
    return HighwayGradients(kept, gradients)


def mixture_gradients(
    gradient_NH: Tensor,
    states_JNH: Tensor,
    gated_JN2H: Tensor,
    excess_JNH: Tensor,
    mixture: Mixture,
    kernel: Kernel | None = None,
) -> HighwayGradients:
    """First derivatives, those in the weights too, from what `mixed_highway_` left with the candidates."""
    if kernel is not None and kernel.supports(gated_JN2H):
        found = kernel.mixture_gradient(gradient_NH, states_JNH, gated_JN2H, excess_JNH, mixture.columns)
        return HighwayGradients(found[0], found[1], mixture.of_candidates(found[2]))
    gate, candidate = gated_JN2H.chunk(2, dim=-1)
    gradients = torch.empty_like(gated_JN2H)
    into_gate, into_candidate = gradients.chunk(2, dim=-1)
    blended = gradient_NH * gate
    kept = gradient_NH - blended
    torch.mul(kept, excess_JNH, out=into_gate)
    sums, slopes = [], []
    for name, p in mixture.weights:
        value = ACTIVATIONS[name].value(candidate)
        slopes.append(ACTIVATIONS[name].slope(value, p))
        sums.append((blended * value).sum((1, 2)))
    torch.mul(blended, add_up(slopes), out=into_candidate)
    shared = (kept * states_JNH).sum((1, 2))
    return HighwayGradients(kept, gradients, torch.stack(sums, 1).add_(shared.unsqueeze(1)))


def needs_ordinary_operators() -> bool:
    """Whether PyTorch has to see every operator: under a compiler, a transform of torch.func, or forward mode."""
    return (
        torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    )
