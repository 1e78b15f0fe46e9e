"""What a training remembers of its epochs: the best and the last validation, and when averaging begins. Plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_darts.protocols.space import Ranking


@dataclass
class TrainingRecord:
    """`last`, `best`: {metric: value} of the validation part; None before the first epoch, and without validation."""

    ranking: Ranking
    losses: list[float] = field(default_factory=list)
    last: dict[str, float | None] | None = None
    best: dict[str, float | None] | None = None
    best_epoch: int | None = None
    restores: int = 0

    def observe(self, epoch: int, validation: Mapping[str, float]) -> bool:
        """Record an epoch's validation; returns whether it is the best so far (of equal ones the first)."""
        name = f"validation_{self.ranking.metric}"
        finite = {key: finite_or_none(value) for key, value in validation.items()}
        loss = validation["validation_loss"]
        self.losses.append(loss if math.isfinite(loss) else math.inf)
        self.last = finite
        value, best = finite[name], None if self.best is None else self.best[name]
        if value is None:
            return False
        if best is not None and not (value > best if self.ranking.direction == "max" else value < best):
            return False
        self.best, self.best_epoch = finite, epoch
        return True

    def averaging_is_due(self, after: int | None) -> bool:
        """Whether the last validation loss exceeds the least of all but the last `after` (arXiv:1708.02182, alg. 1)."""
        if after is None:
            return False
        earlier = self.losses[: -1 - after]
        return bool(earlier) and self.losses[-1] > min(earlier)

    def state_dict(self) -> dict[str, object]:
        """JSON-able; a loss that is not finite is null."""
        return {
            "losses": [finite_or_none(loss) for loss in self.losses],
            "last": self.last,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "restores": self.restores,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.losses = [math.inf if loss is None else loss for loss in state["losses"]]
        self.last, self.best, self.best_epoch = state["last"], state["best"], state["best_epoch"]
        self.restores = state["restores"]


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None
