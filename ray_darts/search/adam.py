"""Adam on the flat vector of alphas, masked by a device-side flag: an unhealthy step changes nothing.

PyTorch's optimiser keeps the step count on the host and cannot skip a step without reading the flag there. The update
rule is that of torch.optim.Adam with L2 weight decay; a test compares them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ray_darts.config import AlphaOptimiser


class Adam:
    """Adam with L2 weight decay; `count` is a device-side step count, which a masked step does not advance."""

    def __init__(self, settings: AlphaOptimiser, alphas: Tensor) -> None:
        self._settings = settings
        self.first_moment = torch.zeros_like(alphas)
        self.second_moment = torch.zeros_like(alphas)
        self.count = torch.zeros((), dtype=torch.float64, device=alphas.device)

    def step_(self, alphas: Tensor, gradient: Tensor, healthy: Tensor) -> Tensor:
        """Step `alphas` in place where `healthy` holds and the new alphas are finite; return that flag."""
        settings = self._settings
        beta1, beta2 = settings.betas
        gradient = gradient.add(alphas, alpha=settings.weight_decay)
        count = self.count + 1
        first = torch.lerp(gradient, self.first_moment, beta1)
        second = torch.lerp(gradient.square(), self.second_moment, beta2)
        correction1 = (1 - beta1**count).to(alphas.dtype)
        correction2 = (1 - beta2**count).to(alphas.dtype)
        stepped = alphas - settings.learning_rate * (first / correction1) / (
            (second / correction2).sqrt() + settings.epsilon
        )
        healthy = healthy & torch.isfinite(stepped).all()
        alphas.copy_(torch.where(healthy, stepped, alphas))
        self.first_moment.copy_(torch.where(healthy, first, self.first_moment))
        self.second_moment.copy_(torch.where(healthy, second, self.second_moment))
        self.count.copy_(torch.where(healthy, count, self.count))
        return healthy
