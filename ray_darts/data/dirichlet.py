"""Samples of Dirichlet distributions from counter-based draws, with their pathwise gradient. Knows no alphas.

The numbers are drawn by the host and shaped on the device: no read by the host, and the same sample on any device up to
rounding. PyTorch's own sampler would draw from a generator of the device. Suffixes: A attempts, E edges, K operations.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.data.batch import Draws, to_device

ATTEMPTS = 16
"""Of the rejection sampler, each accepted with probability 0.95 or more; all fail in 1 of 10^20 entries, which then
take the mean."""


def sample(concentrations_EK: Tensor, draws: Draws, name: str) -> Tensor:
    """One sample [E, K] of Dirichlet(concentrations) per row, each entry positive, rows sum to 1.

    Differentiable: the pathwise gradient of Jankowiak and Obermeyer (arXiv:1806.01851, section 3.2.2), of which PyTorch
    has an approximation with a relative error of at most 4e-4, in place of the true derivative.
    """
    generator, shape = draws.generator(name), tuple(concentrations_EK.shape)
    drawn = (
        generator.standard_normal((ATTEMPTS, *shape)),
        generator.random((ATTEMPTS, *shape)),
        generator.random(shape),
    )
    normals, uniforms, boosts = (
        to_device(torch.from_numpy(numbers), concentrations_EK.device).to(torch.float64) for numbers in drawn
    )
    with torch.no_grad():
        log_gammas = _log_gammas(concentrations_EK.double(), normals, uniforms, boosts)
        mixture = log_gammas.softmax(dim=-1).to(concentrations_EK.dtype)
        smallest = torch.finfo(mixture.dtype).tiny
        mixture = mixture.clamp(smallest, 1 - torch.finfo(mixture.dtype).eps / 2)
    return _Pathwise.apply(concentrations_EK, mixture)  # type: ignore[no-any-return]


def _log_gammas(shapes_EK: Tensor, normals_AEK: Tensor, uniforms_AEK: Tensor, boosts_EK: Tensor) -> Tensor:
    """The logarithms [E, K] of samples of Gamma(shape, 1), by Marsaglia and Tsang (2000), the first accepted attempt.

    A sample of Gamma(a) is one of Gamma(a + 1) times a uniform number to the power 1 / a, for shapes below 1 as well.
    """
    d = shapes_EK + 1 - 1 / 3
    c = torch.rsqrt(9 * d)
    cubes = (1 + c * normals_AEK).pow(3)
    logs = cubes.clamp(min=torch.finfo(torch.float64).tiny).log()
    bounds = 0.5 * normals_AEK.square() + d * (1 - cubes + logs)
    accepted = (cubes > 0) & (uniforms_AEK.log() < bounds)
    first = accepted.to(torch.int8).argmax(dim=0, keepdim=True)
    chosen = torch.where(accepted.any(dim=0), logs.gather(0, first).squeeze(0), 0.0)
    # 1 - u lies in (0, 1], so its logarithm is finite.
    return d.log() + chosen + torch.log1p(-boosts_EK) / shapes_EK


class _Pathwise(torch.autograd.Function):
    """Passes a sample on; its gradient is that of a sample of the Dirichlet distribution with these concentrations."""

    @staticmethod
    def forward(ctx: FunctionCtx, concentrations_EK: Tensor, mixture_EK: Tensor) -> Tensor:
        ctx.save_for_backward(concentrations_EK, mixture_EK)
        return mixture_EK.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: FunctionCtx, upstream_EK: Tensor) -> tuple[Tensor, None]:
        concentrations_EK, mixture_EK = ctx.saved_tensors  # type: ignore[attr-defined]
        total_EK = concentrations_EK.sum(-1, keepdim=True).expand_as(concentrations_EK).contiguous()
        if mixture_EK.is_meta:  # PyTorch has no such kernel
            return torch.empty_like(mixture_EK), None
        slopes_EK = torch._dirichlet_grad(mixture_EK, concentrations_EK, total_EK)
        return slopes_EK * (upstream_EK - (mixture_EK * upstream_EK).sum(-1, keepdim=True)), None
