"""What a search watches for the collapse of its cells, and what it does then. Part of the identity where it is set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ray_darts.protocols.settings import Settings

_OF_ROLL_BACK = ("roll_backs", "weight_decay_factor", "weight_decay_max")


class EigenvalueRule(Settings):
    """When the dominant eigenvalue of the alpha Hessian of the validation loss grows too fast (RobustDARTS,
    arXiv:1909.09656, section 4.3); the defaults are those of its code.

    Every `every_epochs` epochs, from epoch 0, the eigenvalue is found by `iterations` products with the Hessian, each
    about two passes over one batch. The mean of the last `window` values is compared with the mean `delta` values
    earlier. A ratio above `factor` is a collapse, which is taken to have begun at the epoch in the middle of the
    earlier window; that epoch must be at least `start_epoch`.
    """

    every_epochs: int = Field(2, ge=1)
    iterations: int = Field(30, ge=1, description="Hessian products; as many as alphas give the exact value")
    window: int = Field(5, ge=1)
    delta: int = Field(4, ge=1)
    factor: float = Field(1.3, gt=1)
    start_epoch: int = Field(10, ge=0)

    @property
    def steps_back(self) -> int:
        """How many epochs before the last one the collapse is taken to have begun."""
        return self.every_epochs * (self.window // 2 + self.delta)


class WatchSettings(Settings):
    """`action`: "warn" says it in the log and in metrics.parquet; "stop" ends the run with the genotype from before;
    "roll_back" restores the whole state from before and searches on from there with a stronger weight decay,
    `roll_backs` times at most, then it stops. Checkpoints then hold the states to go back to: with `eigenvalue` up to
    seven of them.

    `search.stop_on_skips` is a limit of its own, which always stops. Factor and limit of the weight decay are those of
    RobustDARTS's adaptive regularisation (arXiv:1909.09656, section 5).
    """

    action: Literal["warn", "stop", "roll_back"] = "warn"
    roll_backs: int = Field(3, ge=1)
    weight_decay_factor: float = Field(10.0, gt=1)
    weight_decay_max: float = Field(0.03, gt=0)
    parameter_free: int | None = Field(None, ge=1, description="limit of kept operations without weights in a cell")
    entropy_below: float | None = Field(None, gt=0, description="limit of a cell's mean entropy, nats")
    eigenvalue: EigenvalueRule | None = None

    @model_validator(mode="after")
    def _acts_on_something(self) -> WatchSettings:
        watched = (self.parameter_free, self.entropy_below, self.eigenvalue)
        if self.action != "warn" and all(each is None for each in watched):
            raise ValueError(
                f"action {self.action!r} without a limit: set parameter_free, entropy_below or eigenvalue beside it "
                "(skip connections are limited by search.stop_on_skips)"
            )
        fields = type(self).model_fields
        unused = [name for name in _OF_ROLL_BACK if getattr(self, name) != fields[name].default]
        if self.action != "roll_back" and unused:
            raise ValueError(
                f"{', '.join(unused)}: has no effect beside action {self.action!r}: set action = 'roll_back', or leave "
                "it out"
            )
        return self
