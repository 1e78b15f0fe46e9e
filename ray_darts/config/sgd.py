"""SGD on the weights and its learning rate per epoch, as a search and a training share them."""

from __future__ import annotations

import abc
import math

from pydantic import Field, field_validator

from ray_darts.protocols.settings import Settings

_LARGEST_RATE = 1e200


class SgdSettings(Settings, abc.ABC):
    """Momentum SGD with L2 weight decay and clipping of the gradient norm."""

    learning_rate: float = Field(0.025, gt=0)
    learning_rate_min: float = Field(0.001, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(3e-4, ge=0, le=1000)
    clip: float | None = Field(5.0, gt=0, description="gradient norm; absent: no clipping")

    @field_validator("learning_rate")
    @classmethod
    def _is_no_slip(cls, rate: float) -> float:
        if rate > _LARGEST_RATE:
            raise ValueError(f"at most {_LARGEST_RATE:g} is possible")
        return rate

    @property
    def is_nesterov(self) -> bool:
        """Whether the momentum is Nesterov's."""
        return False

    @abc.abstractmethod
    def rate(self, epoch: int, epochs: int) -> float:
        """The learning rate of `epoch` (from 0) of `epochs`."""

    def cosine(self, epoch: int, epochs: int) -> float:
        """Half a cosine from `learning_rate` to `learning_rate_min` in epoch / epochs."""
        span = self.learning_rate - self.learning_rate_min
        return self.learning_rate_min + span * (1 + math.cos(math.pi * epoch / epochs)) / 2
