"""What the loop tells its owner and what it asks of it. The loop knows no storage; a sink knows no mathematics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ray_darts.genotype.genotype import Genotype
from ray_darts.tasks.metrics import EpochMetrics

StopReason = Literal["interrupted", "time_limit", "superseded", "store_given_up"]


@dataclass(frozen=True)
class Wants:
    """What one rank's owner wants now. `commit` and `pause` count on rank 0, `stop` on any rank."""

    commit: bool = False
    pause: bool = False
    stop: StopReason | None = None


@dataclass(frozen=True)
class Snapshot:
    """All that makes steps `first_step`..`step` durable; arrays are on the host and owned by the receiver.

    `alphas`: float32 [rows, num_alphas], the alphas after each step, in the layout's order; `epochs`: int32 [rows];
    `metrics`: of the epochs that ended since the last commit; `tensors` and `state` are the loop's whole state after
    `step`.
    """

    step: int
    epoch: int
    first_step: int
    alphas: NDArray[np.float32]
    epochs: NDArray[np.int32]
    metrics: list[EpochMetrics]
    tensors: dict[str, NDArray[np.generic]]
    state: dict[str, object]


@dataclass(frozen=True)
class Verdict:
    """How a run of the loop ended; the same on every rank.

    `finished`: `genotype` decodes from the alphas after `genotype_step` and `metric` is the interim ranking;
    `stopped`: everything is committed and resumable, `detail` is a StopReason;
    `non_finite`, `divergence`: final, `facts` name rank, tensor and step or the ranks.
    """

    kind: Literal["finished", "stopped", "non_finite", "divergence"]
    step: int
    detail: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    genotype: Genotype | None = None
    genotype_step: int = 0
    metric: Mapping[str, object] = field(default_factory=dict)


class Sink(Protocol):
    """The loop's owner. Every rank has one; `commit` is called on rank 0 only."""

    def wants(self) -> Wants:
        """Asked on every rank every `agree_every_steps`, at each epoch's end, and once a second while paused."""
        ...

    def epoch(self, metrics: EpochMetrics) -> None:
        """Called on every rank at each epoch's end; may be a barrier of all ranks."""
        ...

    def commit(self, snapshot: Snapshot) -> None:
        """Take what must become durable; returns at once, work goes on elsewhere."""
        ...
