"""The interface between a task and the orchestration: a resumable loop that emits rows, and its verdict.

A task knows no storage and no Ray; a sink knows no mathematics. Every rank has one of each and makes the same calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import Field, JsonValue

from ray_darts.protocols.method import Order
from ray_darts.protocols.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ray_darts.tasks.collectives import Collectives
    from ray_darts.tasks.metrics import EpochMetrics

_Result = TypeVar("_Result")

StopReason = Literal["interrupted", "budget_spent", "superseded", "store_given_up"]


class RunCoordinates(Settings):
    """What distinguishes a run from the others of its experiment; a task uses what it knows.

    `order`: of the alpha gradient, None where there is none. `method`: the settings of a search's method where they
    are not the config's. `genotype`: the architecture that a training trains, as `Genotype.to_data`.
    """

    seed: int = Field(ge=0)
    order: Order | None = None
    method: dict[str, JsonValue] | None = None
    genotype: dict[str, JsonValue] | None = None


@dataclass(frozen=True)
class Wants:
    """The current requests of one rank's sink. `commit` and `pause` are read on rank 0, `stop` on every rank."""

    commit: bool = False
    pause: bool = False
    stop: StopReason | None = None


@dataclass(frozen=True)
class Snapshot:
    """Everything needed to store steps `first_step`..`step`; arrays are on the host and owned by the receiver.

    `rows`: {stream: float32 [rows, width]}, one row per step (of a search the architecture parameters after each step);
    `epochs`: int32 [rows]; `metrics`: epochs that ended since the last commit; `tensors` and `state` are the task's
    whole state after `step`.
    """

    step: int
    epoch: int
    first_step: int
    rows: Mapping[str, NDArray[np.float32]]
    epochs: NDArray[np.int32]
    metrics: list[EpochMetrics]
    tensors: dict[str, NDArray[np.generic]]
    state: dict[str, object]


@dataclass(frozen=True)
class Verdict:
    """How a task ended; the same on every rank.

    `finished`: `answer` is the task's result, JSON-able; `stopped`: everything is committed and resumable, `detail` is
    a StopReason; `non_finite`, `divergence`: final, `facts` name rank, tensor and step or the ranks.
    """

    kind: Literal["finished", "stopped", "non_finite", "divergence"]
    step: int
    detail: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    answer: Mapping[str, JsonValue] | None = None


class Sink(Protocol):
    """Receives a task's results and requests commits and stops. Every rank has one; `commit` is called on rank 0."""

    def wants(self) -> Wants:
        """Return the requests; called on every rank every `agree_every_steps` steps, at each epoch's end, and once a
        second while paused."""
        ...

    def epoch(self, metrics: EpochMetrics) -> None:
        """Receive an epoch's metrics; called on every rank at each epoch's end, may be a barrier of all ranks."""
        ...

    def test_opened(self, digest: str) -> int | None:
        """Record that this run opens the test set of the data with this digest, before it is read.

        Called on every rank; returns on rank 0 how many runs have done so, this one included.
        """
        ...

    def while_waiting(self, work: Callable[[], _Result]) -> _Result:
        """Do this rank's work, which takes long, while the ranks exchange keep-alives; called on every rank."""
        ...

    def commit(self, snapshot: Snapshot) -> None:
        """Receive a snapshot to store; return at once and write in the background."""
        ...


class Task(Protocol):
    """One run on this rank. `step` counts finished steps of `total_steps`.

    `documents`: names of the publications that a finished run leaves, in the order in which they are written.
    """

    kind: ClassVar[str]
    step: int
    total_steps: int

    def __init__(
        self,
        config: Any,
        coordinates: RunCoordinates,
        data: Any,
        collectives: Collectives,
        device: torch.device,
    ) -> None:
        """Start at the first step; every rank calls with the same config (of the task's own kind) and coordinates."""
        ...

    @property
    def documents(self) -> tuple[str, ...]: ...

    def load_state_dict(self, tensors: Mapping[str, NDArray[np.generic]], state: Mapping[str, object]) -> None:
        """Continue from a Snapshot's tensors and state, written at any world size."""
        ...

    def run(self, sink: Sink) -> Verdict:
        """Work until the end, a stop or a failure; the same verdict on every rank.

        Raises: any error of the data, of the sink or of a lost rank.
        """
        ...
