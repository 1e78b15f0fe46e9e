"""SGD and Adam on one flat vector each, masked by a device-side flag: an unhealthy step changes nothing.

PyTorch's optimisers keep Adam's step count on the host and cannot skip a step without reading the flag there. The
update rules are those of torch.optim.SGD and torch.optim.Adam with L2 weight decay; a test compares them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ray_darts.config import AlphaOptimiser, WeightOptimiser


def learning_rate(settings: WeightOptimiser, epoch: int, epochs: int) -> float:
    """Weight learning rate of `epoch` (from 0) of `epochs`: constant, or cosine in epoch / epochs."""
    if settings.schedule == "constant":
        return settings.learning_rate
    span = settings.learning_rate - settings.learning_rate_min
    return settings.learning_rate_min + span * (1 + math.cos(math.pi * epoch / epochs)) / 2


def clip_coefficient(gradient: Tensor, clip: float | None) -> Tensor | None:
    """min(1, clip / ||gradient||) as a 0-dim tensor, or None without clipping.

    Departs from torch.nn.utils.clip_grad_norm_ by not adding 1e-6 to the norm.
    """
    if clip is None:
        return None
    coefficient: Tensor = clip / torch.linalg.vector_norm(gradient)
    return coefficient.clamp(max=1.0)


class Sgd:
    """Momentum SGD; `momentum_buffer` [size] starts at zero, which equals PyTorch's first step."""

    def __init__(self, settings: WeightOptimiser, weights: Tensor) -> None:
        self._settings = settings
        self.momentum_buffer = torch.zeros_like(weights)

    def direction(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """What a step subtracts, per unit of learning rate: gradient + wd * w + momentum * buffer."""
        return gradient.add(weights, alpha=self._settings.weight_decay).add_(
            self.momentum_buffer, alpha=self._settings.momentum
        )

    def step_(self, weights: Tensor, gradient: Tensor, rate: float, healthy: Tensor) -> Tensor:
        """Clip and step `weights` in place where `healthy` (0-dim bool) holds and the new ones are finite.

        Returns that flag.
        """
        coefficient = clip_coefficient(gradient, self._settings.clip)
        if coefficient is not None:
            gradient = gradient * coefficient
        direction = self.direction(weights, gradient)
        stepped = weights.sub(direction, alpha=rate)
        healthy = healthy & torch.isfinite(stepped.sum())
        self.momentum_buffer.copy_(torch.where(healthy, direction, self.momentum_buffer))
        weights.copy_(torch.where(healthy, stepped, weights))
        return healthy


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
