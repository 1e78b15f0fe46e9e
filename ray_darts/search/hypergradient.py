"""The alpha gradient of the bilevel problem, first and second order, as functions of two losses.

arXiv:1806.09055, eqs. 5-8. `sum_` is an in-place sum of one flat buffer over ranks; each rank weights its losses by
its share of the global batch, so the sums are means over the global batch. Knows no Ray, no files, and of the
optimiser only the direction of its virtual step.

Phases of the second order (three averages; averaging only the last line is wrong):
  1. gw = avg(d/dw L_train(w, alpha));        w' = w - xi * direction(w, c * gw)
  2. (ga, v) = avg(d/d(alpha, w') L_val(w', alpha))
  3. h = avg(d2/dalpha dw L_train(w, alpha) . v), by central difference at w +- eps v or exactly
  g = ga - xi * c * h
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from weakref import WeakSet

import torch
from torch import Tensor

from ray_darts.spaces import tangents
from ray_darts.tasks.flat import FlatVector, ReductionBuffer
from ray_darts.tasks.gradient import Objective, Sum, local_gradient, reduced_gradient
from ray_darts.tasks.sgd import clip_coefficient

logger = logging.getLogger(__name__)

Hessian = Literal["finite_difference", "exact"]

_REFUSALS = ("modified by an inplace operation", "is not implemented")
"""What PyTorch says where its formula for a tangent cannot be differentiated."""

_without_tangents: WeakSet[FlatVector] = WeakSet()
"""Weights of networks with an operation that has none."""


@dataclass(frozen=True)
class VirtualStep:
    """How w' is computed: `rate` is xi; `direction(w, gw)` is what the weight optimiser subtracts per unit of rate;
    `clip` bounds ||gw|| inside it (c = min(1, clip / ||gw||), held constant), None for c = 1."""

    rate: float
    direction: Callable[[Tensor, Tensor], Tensor]
    clip: float | None = None


@dataclass(frozen=True)
class AlphaGradient:
    """`gradient` [num_alphas] of the global batch, `extras` [E] of the validation loss, summed over ranks."""

    gradient: Tensor
    extras: Tensor


def first_order(alphas: FlatVector, validation: Objective, num_extras: int, sum_: Sum) -> AlphaGradient:
    """d/dalpha L_val(w, alpha): xi = 0 in eq. 6."""
    buffer = reduced_gradient(validation, [alphas], num_extras, sum_)
    return AlphaGradient(buffer.gradients[0], buffer.extras)


def second_order(
    weights: FlatVector,
    alphas: FlatVector,
    training: Objective,
    validation: Objective,
    num_extras: int,
    sum_: Sum,
    step: VirtualStep,
    *,
    hessian: Hessian,
    radius: float = 0.01,
) -> AlphaGradient:
    """d/dalpha L_val(w - xi * d/dw L_train(w, alpha), alpha), eq. 7, with the product of eq. 8 or its exact value.

    `weights.vector` is moved in place to w', w+ and w- and restored bit for bit, also after an exception.
    """
    kept = weights.vector.clone()
    try:
        with alphas.held():
            gradient_w = reduced_gradient(training, [weights], num_extras, sum_).gradients[0]
        coefficient = clip_coefficient(gradient_w, step.clip)
        if coefficient is not None:
            gradient_w = gradient_w * coefficient
        weights.vector.sub_(step.direction(kept, gradient_w), alpha=step.rate)
        del gradient_w
        outer = reduced_gradient(validation, [alphas, weights], num_extras, sum_)
        gradient_alpha, v = outer.gradients
        if hessian == "exact":
            weights.vector.copy_(kept)
            product = _exact_product(weights, alphas, training, v, sum_)
        else:
            product = _difference_product(weights, alphas, training, v, kept, radius, sum_)
    finally:
        weights.vector.copy_(kept)
    if coefficient is not None:
        product = product * coefficient
    return AlphaGradient(gradient_alpha.sub(product, alpha=step.rate), outer.extras)


def _difference_product(
    weights: FlatVector, alphas: FlatVector, training: Objective, v: Tensor, kept: Tensor, radius: float, sum_: Sum
) -> Tensor:
    """Eq. 8: (d/dalpha L_train(w+) - d/dalpha L_train(w-)) / (2 eps) with eps = radius / ||v||; 0 at v = 0."""
    norm = torch.linalg.vector_norm(v)
    epsilon = torch.where(norm > 0, radius / norm, 0.0)
    shift = v * epsilon
    with weights.held():
        torch.add(kept, shift, out=weights.vector)
        above = local_gradient(training, [alphas], 0, full_precision=True).gradients[0]
        torch.sub(kept, shift, out=weights.vector)
        below = local_gradient(training, [alphas], 0, full_precision=True).gradients[0]
    difference = above - below
    sum_(difference)
    # A non-finite norm must reach the check for finite values, so only an exact zero is masked.
    return torch.where(norm == 0, 0.0, difference / (2 * epsilon))


def _exact_product(weights: FlatVector, alphas: FlatVector, training: Objective, v: Tensor, sum_: Sum) -> Tensor:
    """d/dalpha (d/dw L_train(w, alpha) . v), without a gradient of a weight.

    A pass whose weights carry the tangent v computes the slope of L_train along v, and a backward pass its gradient.
    Where an operation of a plugin cannot do that, on every rank alike, L_train is differentiated backwards twice.
    """
    if weights not in _without_tangents:
        try:
            buffer = _slope_gradient(weights, alphas, training, v)
        except RuntimeError as error:
            if not isinstance(error, NotImplementedError) and not any(words in str(error) for words in _REFUSALS):
                raise
            logger.warning("the exact Hessian product takes twice as long, as an operation has no tangent: %s", error)
            _without_tangents.add(weights)
    if weights in _without_tangents:
        buffer = _double_backward(weights, alphas, training, v)
    sum_(buffer.vector)
    return buffer.gradients[0]


def _slope_gradient(weights: FlatVector, alphas: FlatVector, training: Objective, v: Tensor) -> ReductionBuffer:
    buffer = ReductionBuffer([alphas], 0)
    with weights.held(), tangents.carried():
        for tensor, direction in zip(weights.tensors.values(), weights.views(v), strict=True):
            tangents.give_(tensor, direction)
        for loss, _ in training(True):
            slope = tangents.of(loss)
            # A loss without a mixed derivative (no path from alpha through any weight's gradient) has a zero product.
            if slope is not None and slope.requires_grad:
                with tangents.paused():
                    buffer.add_(torch.autograd.grad(slope, list(alphas.tensors.values()), allow_unused=True))
    return buffer


def _double_backward(weights: FlatVector, alphas: FlatVector, training: Objective, v: Tensor) -> ReductionBuffer:
    buffer = ReductionBuffer([alphas], 0)
    names = list(weights.tensors)
    directions = dict(zip(names, weights.views(v), strict=True))
    for loss, _ in training(True):
        inner = torch.autograd.grad(loss, list(weights.tensors.values()), create_graph=True, allow_unused=True)
        terms = [(g * directions[name]).sum() for name, g in zip(names, inner, strict=True) if g is not None]
        product = torch.stack(terms).sum()
        if product.requires_grad:
            buffer.add_(torch.autograd.grad(product, list(alphas.tensors.values()), allow_unused=True))
    return buffer
