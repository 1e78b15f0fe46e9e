"""The weights of a network, its running statistics and the SGD that moves them: one step over the global batch.

The host reads nothing here. Knows neither the network nor the loss.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ray_darts.config import SgdSettings
from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.flat import FlatVector
from ray_darts.tasks.gradient import Objective, local_gradient
from ray_darts.tasks.sgd import Sgd

Arrays = dict[str, NDArray[np.generic]]


class WeightStep:
    """All parameters of `network` are weights; parameters and running statistics become views of one vector each.

    After each step all ranks have bitwise equal weights, momentum and statistics.
    """

    def __init__(self, network: nn.Module, settings: SgdSettings, collectives: Collectives) -> None:
        self.weights = FlatVector(dict(network.named_parameters()))
        statistics = {name: b for name, b in network.named_buffers() if name.endswith(("running_mean", "running_var"))}
        self.statistics = FlatVector(statistics)
        self.sgd = Sgd(settings, self.weights.vector)
        self._collectives = collectives

    def step_(
        self,
        objective: Objective,
        share: float,
        rate: float,
        healthy: Tensor,
        num_extras: int,
        added: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Do one SGD step where `healthy` (0-dim bool) holds and every value is finite.

        `share`: this rank's share of the global batch. `added` [num_weights]: added to the gradient, before clipping.
        Returns (the global batch's extras [num_extras], that flag).
        The same reduction averages the running statistics: all ranks start from equal ones, and the weighted mean of
        their updates is equal on all ranks again.
        """
        statistics = self.statistics.vector.clone()
        buffer = local_gradient(objective, [self.weights], num_extras + self.statistics.size)
        extras, moved = torch.split(buffer.extras, [num_extras, self.statistics.size])
        if self.statistics.size:
            torch.mul(self.statistics.vector, share, out=moved)
        self._collectives.sum_(buffer.vector)
        gradient = buffer.gradients[0]
        if added is not None:
            gradient.add_(added)
        finite = torch.isfinite(buffer.vector.sum())
        healthy = self.sgd.step_(self.weights.vector, gradient, rate, healthy & finite)
        if self.statistics.size:
            self.statistics.vector.copy_(torch.where(healthy, moved, statistics))
        return extras, healthy

    def to_host(self) -> Arrays:
        """Copy weights, momentum and statistics to the host."""
        return {
            **self.weights.to_host(self.weights.vector, "weights"),
            **self.weights.to_host(self.sgd.momentum_buffer, "momentum"),
            **self.statistics.to_host(self.statistics.vector, "statistics"),
        }

    def from_host_(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Load the arrays of `to_host`. Raises: KeyError, ValueError naming a tensor that is missing or does not fit"""
        self.weights.from_host_(self.weights.vector, arrays, "weights")
        self.weights.from_host_(self.sgd.momentum_buffer, arrays, "momentum")
        self.statistics.from_host_(self.statistics.vector, arrays, "statistics")
