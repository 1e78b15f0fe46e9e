"""SGD on one flat vector of weights, masked by a device-side flag: an unhealthy step changes nothing.

PyTorch's optimiser cannot skip a step without reading the flag on the host. The update rule is that of torch.optim.SGD
with L2 weight decay; a test compares them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ray_darts.config import SgdSettings


def clip_coefficient(gradient: Tensor, clip: float | None) -> Tensor | None:
    """min(1, clip / ||gradient||) as a 0-dim tensor, or None without clipping.

    Departs from torch.nn.utils.clip_grad_norm_ by not adding 1e-6 to the norm.
    """
    if clip is None:
        return None
    coefficient: Tensor = clip / torch.linalg.vector_norm(gradient)
    return coefficient.clamp(max=1.0)


class Sgd:
    """Momentum SGD; `momentum_buffer` [size] starts at zero, which equals PyTorch's first step. `weight_decay` may be
    changed between steps."""

    def __init__(self, settings: SgdSettings, weights: Tensor) -> None:
        self._settings = settings
        self.weight_decay = settings.weight_decay
        self.momentum_buffer = torch.zeros_like(weights)

    def direction(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """The new momentum buffer: gradient + wd * w + momentum * buffer; plain momentum subtracts rate times this."""
        return gradient.add(weights, alpha=self.weight_decay).add_(self.momentum_buffer, alpha=self._settings.momentum)

    def step_(self, weights: Tensor, gradient: Tensor, rate: float, healthy: Tensor) -> Tensor:
        """Clip and step `weights` in place where `healthy` (0-dim bool) holds and the new ones are finite.

        Returns that flag.
        """
        coefficient = clip_coefficient(gradient, self._settings.clip)
        if coefficient is not None:
            gradient = gradient * coefficient
        direction = self.direction(weights, gradient)
        stepped = weights.sub(self._subtracted(weights, gradient, direction), alpha=rate)
        healthy = healthy & torch.isfinite(stepped.sum())
        self.momentum_buffer.copy_(torch.where(healthy, direction, self.momentum_buffer))
        weights.copy_(torch.where(healthy, stepped, weights))
        return healthy

    def _subtracted(self, weights: Tensor, gradient: Tensor, direction: Tensor) -> Tensor:
        """What the step subtracts per unit of rate: Nesterov's momentum looks one step ahead along the new buffer."""
        if not self._settings.is_nesterov:
            return direction
        decayed = gradient.add(weights, alpha=self.weight_decay)
        return decayed.add_(direction, alpha=self._settings.momentum)
