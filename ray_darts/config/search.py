"""The bilevel problem: both optimisers, steps, precision, batch norm, Hessian. All are part of the identity."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ray_darts.config.sgd import SgdSettings
from ray_darts.protocols.settings import Settings


class WeightOptimiser(SgdSettings):
    """SGD on the weights; the learning rate follows `schedule` per epoch from `learning_rate` to `_min`."""

    schedule: Literal["cosine", "constant"] = "cosine"
    clip_virtual_step: bool = Field(False, description="also clip the gradient inside w' (text)")

    @model_validator(mode="after")
    def _consistent(self) -> WeightOptimiser:
        if self.clip_virtual_step and self.clip is None:
            raise ValueError("clip_virtual_step needs clip")
        if self.learning_rate_min > self.learning_rate:
            raise ValueError(f"learning_rate_min {self.learning_rate_min} exceeds {self.learning_rate}")
        return self

    def rate(self, epoch: int, epochs: int) -> float:
        """Constant, or half a cosine."""
        return self.learning_rate if self.schedule == "constant" else self.cosine(epoch, epochs)


class AlphaOptimiser(Settings):
    """Adam on the alphas with L2 weight decay. `init`: zeros as in the paper, or normal (times `init_scale`) as in its
    code."""

    learning_rate: float = Field(3e-4, gt=0, le=1000)
    betas: tuple[float, float] = (0.5, 0.999)
    epsilon: float = Field(1e-8, gt=0)
    weight_decay: float = Field(1e-3, ge=0, le=1000)
    init: Literal["zeros", "normal"] = "normal"
    init_scale: float = Field(1e-3, gt=0, le=1000)

    @model_validator(mode="after")
    def _betas(self) -> AlphaOptimiser:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {self.betas} must lie in [0, 1)")
        return self


class SearchSettings(Settings):
    """Length and batch size of a search, and its numerical methods."""

    epochs: int = Field(50, ge=1, le=100_000)
    batch_size: int = Field(64, ge=1, le=1_000_000, description="global: over all workers")
    alpha_warmup_epochs: int = Field(0, ge=0, description="first epochs, of every stage, in which alphas are frozen")
    hessian: Literal["finite_difference", "exact"] = "finite_difference"
    finite_difference_radius: float = Field(0.01, gt=0, description="eps = radius / ||v|| (the paper's 0.01)")
    precision: Literal["float64", "float32", "tf32", "bfloat16"] = "float32"
    batch_norm: Literal["local", "sync"] = "local"
    accumulate: int = Field(1, ge=1, description="micro-batches per pass; batch norm normalises each separately")
    stop_on_skips: int | None = Field(None, ge=1, description="end when a cell keeps this many skip connections")

    @model_validator(mode="after")
    def _consistent(self) -> SearchSettings:
        if self.alpha_warmup_epochs >= self.epochs:
            raise ValueError(
                f"alpha_warmup_epochs {self.alpha_warmup_epochs} leaves no epoch of {self.epochs} to search"
            )
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate {self.accumulate} exceeds batch_size {self.batch_size}")
        return self
