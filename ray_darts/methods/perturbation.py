"""Perturbs the mixing weights while the network's weights are trained (SmoothDARTS, arXiv:2002.05283).

A search that is flat around its mixing weights loses less when they are decoded. Only the training loss is perturbed:
the alpha step's validation loss uses the mixing weights as they are. Suffixes: E edges, K operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ray_darts.protocols.method import Progress, TrainingLoss
from ray_darts.protocols.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from ray_darts.data.batch import Draws


class Perturbation(Settings):
    """By a uniform draw in every step (RS), or by the worst of a few steps up the training loss (ADV).

    The radius grows linearly from `radius` at the first epoch to `radius + radius_growth` after the last.
    """

    kind: Literal["random", "adversarial"] = "random"
    radius: float = Field(0.03, ge=0, le=1)
    radius_growth: float = Field(0.27, ge=0, le=1)
    ascent_steps: int = Field(7, ge=1, description="of the adversarial perturbation, each a pass over the batch")

    def radius_at(self, progress: Progress) -> float:
        """The largest change of a mixing weight."""
        return self.radius + self.radius_growth * progress.epoch / progress.epochs

    def find(
        self,
        weights: Mapping[str, Tensor],
        cells: Sequence[str],
        draws: Draws,
        progress: Progress,
        training_loss: TrainingLoss,
    ) -> dict[str, Tensor]:
        """{cell: what is added to its mixing weights [E, K]}, within the radius; equal on all ranks.

        Adversarial: from the random perturbation, `ascent_steps` steps of 2 * radius / ascent_steps along the sign of
        the gradient of the training loss (arXiv:2002.05283, eq. 6), on the step's own batch and with running
        statistics; 0 where that lowered the loss.
        """
        import torch

        radius = self.radius_at(progress)
        found = {cell: self._uniform(weights[cell], f"perturbation.{cell}", draws, radius) for cell in cells}
        if self.kind == "random":
            return found
        before, _ = training_loss(weights)
        for _ in range(self.ascent_steps):
            _, gradients = training_loss(perturbed(weights, found))
            for cell, delta in found.items():
                step = gradients[cell].sign() * (2 * radius / self.ascent_steps)
                found[cell] = (delta + step).clamp(-radius, radius)
        after, _ = training_loss(perturbed(weights, found))
        return {cell: torch.where(after < before, 0.0, delta) for cell, delta in found.items()}

    def _uniform(self, weights_EK: Tensor, name: str, draws: Draws, radius: float) -> Tensor:
        import torch

        from ray_darts.data.batch import to_device

        drawn = draws.generator(name).uniform(-radius, radius, size=tuple(weights_EK.shape))
        return to_device(torch.from_numpy(drawn), weights_EK.device).to(weights_EK.dtype)


def perturbed(weights: Mapping[str, Tensor], deltas: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mixing weights of the training loss: changed, clipped to [0, 1], and divided by their sum edge by edge.

    An edge on which nothing is left has the weight 1 at its largest sum before clipping.
    """
    import torch
    import torch.nn.functional as F

    result = dict(weights)
    for cell, delta in deltas.items():
        moved = torch.where(weights[cell] == 0, -torch.inf, weights[cell] + delta)  # an edge need not have all
        clipped = moved.clamp(0, 1)
        total = clipped.sum(dim=-1, keepdim=True)
        highest = F.one_hot(moved.argmax(dim=-1), moved.shape[-1]).to(moved.dtype)
        result[cell] = torch.where(total > 0, clipped / total.where(total > 0, 1.0), highest)
    return result
