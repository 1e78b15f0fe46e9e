"""Settings of the parts of a composed method that are a formula or a schedule each, with their papers' constants."""

from __future__ import annotations

import math

from pydantic import Field

from ray_darts.protocols.method import Progress
from ray_darts.protocols.settings import Settings


class PartialChannels(Settings):
    """Only the first 1 / `parts` of the channels are mixed, and channels are shuffled after (arXiv:1907.05737).

    `edge_weights`: each node weights its edges by softmax(beta), one beta per edge (eq. 3 there).
    """

    parts: int = Field(4, ge=2, description="K: one of K channels goes through the operations")
    edge_weights: bool = True


class LogSumExp(Settings):
    """Adds `weight` * epoch / epochs times the mean over all edges of logsumexp(alpha) to the validation loss
    (beta-DARTS, arXiv:2203.01665, eqs. 9 and 13); `none` counts as an operation."""

    weight: float = Field(50.0, gt=0)

    def weight_at(self, progress: Progress) -> float:
        """0 in the first epoch, then growing linearly."""
        return self.weight * progress.epoch / progress.epochs


class AuxiliarySkip(Settings):
    """Adds `start` to `end` times a skip connection with weights of its own to each edge, outside of the softmax
    (DARTS-, arXiv:2009.01027, eq. 7); the factor falls linearly, epoch by epoch, and nothing of it is decoded."""

    start: float = Field(1.0, ge=0)
    end: float = Field(0.0, ge=0, description="reached after the last epoch")

    def factor_at(self, progress: Progress) -> float:
        """The factor in an epoch."""
        return self.start + (self.end - self.start) * progress.epoch / progress.epochs


class SkipDropout(Settings):
    """Drops elements of skip connections at stride 1 in training (P-DARTS, arXiv:1904.12760, section 3.3).

    The rate is `rate` at first, falls linearly (to 0 in the last epoch, if it went on) during the first `hold` of the
    epochs, and then as rate * exp(-0.2 * 25 * t), t in parts of all epochs since; P-DARTS has 25 epochs and holds 10.
    """

    rate: float = Field(0.4, gt=0, lt=1)
    hold: float = Field(0.4, ge=0, le=1)

    def rate_at(self, progress: Progress) -> float:
        """The rate in an epoch."""
        if progress.epoch < self.hold * progress.epochs:
            return self.rate * (progress.epochs - 1 - progress.epoch) / progress.epochs
        return self.rate * math.exp(-0.2 * 25 * (progress.epoch / progress.epochs - self.hold))


class Alignment(Settings):
    """Trains the weights so that the cells of a kind agree on their mixing weights (Lambda-DARTS, arXiv:2210.07998).

    The strength grows linearly, epoch by epoch, from 0 to `strength` in the last epoch; `radius`: the length of the
    finite difference.
    """

    strength: float = Field(0.125, gt=0)
    radius: float = Field(1e-4, gt=0)

    def strength_at(self, progress: Progress) -> float:
        """The strength in an epoch."""
        return self.strength * progress.epoch / max(progress.epochs - 1, 1)
