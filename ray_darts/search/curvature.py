"""The dominant eigenvalue of the alpha Hessian of the validation loss (RobustDARTS, arXiv:1909.09656, section 4).

By the Lanczos method on Hessian-vector products: the Hessian itself is never built, and the host reads two vectors at
the end. Products are sums over ranks, as every gradient is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ray_darts.data.batch import Batch, generator
from ray_darts.protocols.method import Progress
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.supernet import LossOutput, Pass
from ray_darts.tasks.flat import ReductionBuffer
from ray_darts.tasks.gradient import Objective
from ray_darts.tasks.objective import batch_objective

_SMALLEST = 1e-10
"""A next direction that is shorter, relative to the largest number so far, is rounding: all directions are found."""


def dominant_eigenvalue(step: BilevelStep, batch: Batch, progress: Progress, iterations: int) -> float:
    """The largest eigenvalue of d2/dalpha2 L_val(w, alpha), plus the weight decay of the alphas, which is the curvature
    of their L2 penalty; without the method's penalty. Every rank calls.

    `batch`: this rank's part of a global batch, normalised by its statistics. `iterations`: products with the Hessian;
    with as many as alphas the value is exact.
    """
    objective = _validation_loss(step, batch, progress)
    with step.weights.held():
        if step.config.search.accumulate == 1:
            product = _kept_product(step, objective)
        else:  # the graphs of all micro-batches together are too large
            product = _repeated_product(step, objective)
        found = lanczos(product, step.alphas.vector, iterations)
    # That of rank 0: on other machines the last bits may differ, and all ranks must decide alike.
    own = found if step.collectives.shard.rank == 0 else 0.0
    value = torch.tensor([own], dtype=torch.float64, device=step.device)
    step.collectives.sum_(value)
    return float(value) + step.config.alphas.weight_decay


def lanczos(product: Callable[[Tensor], Tensor], like: Tensor, iterations: int) -> float:
    """The largest eigenvalue of a symmetric matrix [n, n], known by its products; `like` [n].

    Starts from the same vector in every run; every direction is made orthogonal to all earlier ones, twice.
    """
    size = like.numel()
    start = torch.from_numpy(generator(0, "curvature").standard_normal(size)).to(like)
    directions = [start / start.norm()]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for _ in range(min(iterations, size)):
        image = product(directions[-1])
        diagonal.append(torch.dot(image, directions[-1]))
        basis = torch.stack(directions)
        for _ in range(2):
            image = image - basis.t() @ (basis @ image)
        beside.append(image.norm())
        directions.append(torch.where(beside[-1] > 0, image / beside[-1], 0.0))
    alphas, betas = torch.stack([torch.stack(diagonal), torch.stack(beside)]).double().cpu().numpy()
    if not np.isfinite([alphas, betas]).all():
        return float("nan")
    scale = max(np.abs(alphas).max(), betas.max())
    ends = np.flatnonzero(betas <= _SMALLEST * scale)
    count = int(ends[0]) + 1 if len(ends) else len(alphas)
    tridiagonal = np.diag(alphas[:count]) + np.diag(betas[: count - 1], 1) + np.diag(betas[: count - 1], -1)
    return float(np.linalg.eigvalsh(tridiagonal)[-1])


def _validation_loss(step: BilevelStep, batch: Batch, progress: Progress) -> Objective:
    def loss_of(micro: Batch, part: Tensor | None, full: bool) -> LossOutput:
        mixing = step.architecture.mixing("curvature", progress.step, progress)
        return step.supernet.loss(micro, part, Pass.ALPHA, mixing)

    return batch_objective(step.config.search, batch, step.validation_carry, step.device, loss_of)


def _kept_product(step: BilevelStep, objective: Objective) -> Callable[[Tensor], Tensor]:
    """One graph for all products."""
    tensors = list(step.alphas.tensors.values())
    ((loss, _),) = objective(True)
    gradients = torch.autograd.grad(loss, tensors, create_graph=True, allow_unused=True)
    return lambda vector: _product(step, [gradients], vector)


def _repeated_product(step: BilevelStep, objective: Objective) -> Callable[[Tensor], Tensor]:
    """A graph for each micro-batch of each product."""
    tensors = list(step.alphas.tensors.values())

    def product(vector: Tensor) -> Tensor:
        gradients = (
            torch.autograd.grad(loss, tensors, create_graph=True, allow_unused=True) for loss, _ in objective(True)
        )
        return _product(step, gradients, vector)

    return product


def _product(step: BilevelStep, gradients: Iterable[Sequence[Tensor | None]], vector: Tensor) -> Tensor:
    """The Hessian times `vector` [num_alphas], summed over micro-batches and ranks."""
    alphas = step.alphas
    buffer = ReductionBuffer([alphas], 0)
    parts = alphas.views(vector)
    for one in gradients:
        inner = torch.stack([(g * part).sum() for g, part in zip(one, parts, strict=True) if g is not None]).sum()
        if inner.requires_grad:
            tensors = list(alphas.tensors.values())
            buffer.add_(torch.autograd.grad(inner, tensors, retain_graph=True, allow_unused=True))
    step.collectives.sum_(buffer.vector)
    return buffer.gradients[0].clone()
