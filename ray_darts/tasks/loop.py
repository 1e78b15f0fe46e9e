"""The loop that every task shares: epochs of steps, agreement between ranks, commits, pauses, stops, finiteness.

Every `agree_every_steps` steps and at each epoch's end the ranks compare digests of their state and decide together.
What a step computes is the task's. Knows no storage and no Ray.
"""

from __future__ import annotations

import abc
import json
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from ray_darts.config import OperationSettings
from ray_darts.errors import NonFiniteStep, RankDivergence, SearchError
from ray_darts.protocols.task import Sink, Snapshot, Verdict
from ray_darts.tasks.agreement import Agreement, agree
from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.metrics import EpochMetrics
from ray_darts.tasks.weight_step import Arrays

_PAUSE_S = 1.0


class Schedule(Protocol):
    """The steps of a run's epochs, as its data know them."""

    def num_steps(self, epoch: int) -> int:
        """Steps in `epoch` (from 0); the same on all ranks."""
        ...

    def total_steps(self, epochs: int) -> int:
        """Steps in the first `epochs` epochs."""
        ...


class TaskLoop(abc.ABC):
    """One run on this rank; all ranks make the same calls.

    `step` counts finished steps, `epoch` finished epochs, `index` finished steps of the current epoch. `stream`: the
    name of the rows that `_advance_` returns, one per step; None for a task without rows.
    """

    stream: ClassVar[str | None] = None

    def __init__(
        self,
        operation: OperationSettings,
        schedule: Schedule,
        epochs: int,
        collectives: Collectives,
        device: torch.device,
        *,
        row: Tensor | None = None,
    ) -> None:
        """`row`: a tensor of the shape of a row, where the task has a stream."""
        self._agree_every, self._schedule, self._epochs = operation.agree_every_steps, schedule, epochs
        self._collectives, self._device = collectives, device
        self.step = self.epoch = self.index = 0
        self.total_steps = schedule.total_steps(epochs)
        self._width = 0 if row is None else row.numel()
        self._window = torch.zeros(self._agree_every, self._width, dtype=torch.float32, device=device)
        self._started_at = 0
        self._forget_commits()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @abc.abstractmethod
    def _advance_(self) -> Tensor | None:
        """Do step `index` of `epoch`; return its row. The host reads nothing from the device."""

    @property
    @abc.abstractmethod
    def _health(self) -> tuple[Tensor, Tensor]:
        """On the device: whether all steps so far were finite, and how many were, of this attempt."""

    @property
    @abc.abstractmethod
    def _agreed_state(self) -> Tensor:
        """What must be bitwise equal on all ranks."""

    @abc.abstractmethod
    def _epoch_metrics(self) -> EpochMetrics:
        """The metrics of the epoch that ends now; every rank calls."""

    @abc.abstractmethod
    def _next_epoch_(self) -> None:
        """Clear what is counted per epoch; `epoch` is that of the next one already."""

    @abc.abstractmethod
    def _gather(self) -> Arrays:
        """Every array that a resume needs, on the host; every rank calls."""

    @abc.abstractmethod
    def _scatter_(self, tensors: Mapping[str, NDArray[np.generic]]) -> None:
        """Load the arrays of `_gather`."""

    @abc.abstractmethod
    def _own_state(self) -> dict[str, object]:
        """The task's own part of the JSON-able state."""

    @abc.abstractmethod
    def _load_own_state_(self, state: Mapping[str, Any]) -> None:
        """Load `_own_state`."""

    @abc.abstractmethod
    def _finish(self, sink: Sink) -> tuple[str, Mapping[str, JsonValue]]:
        """(detail, answer) of the finished task; every rank calls."""

    @abc.abstractmethod
    def _find_non_finite(self) -> tuple[dict[str, object], str]:
        """Repeat the step that failed, which `index` names, on every rank: {"rank", "tensor"}, and a likely cause."""

    @property
    def _ended(self) -> bool:
        return self.epoch >= self._epochs

    def _recover_(self) -> bool:
        """After a step that was not finite: whether the task's state is now such that the next step can be done.

        A task with rows cannot skip a step.
        """
        return False

    def state_dict(self) -> dict[str, object]:
        """The JSON-able part of the state."""
        return {"step": self.step, "epoch": self.epoch, "index": self.index, **self._own_state()}

    def load_state_dict(self, tensors: Mapping[str, NDArray[np.generic]], state: Mapping[str, object]) -> None:
        """Continue from a Snapshot's tensors and state, written at any world size."""
        self._scatter_(tensors)
        step, epoch, index = (state[key] for key in ("step", "epoch", "index"))
        assert isinstance(step, int)
        assert isinstance(epoch, int)
        assert isinstance(index, int)
        self.step = self._started_at = step
        self.epoch, self.index = epoch, index
        self._load_own_state_(state)
        self._forget_commits()

    def run(self, sink: Sink) -> Verdict:
        """Work until the end, a stop or a failure; the same verdict on every rank.

        Raises: StepOutOfMemory; any error of the data, of the sink or of a lost rank.
        """
        self._epoch_clock = time.monotonic(), self.step
        while not self._ended:
            self._step_()
            at_end = self.index == self._schedule.num_steps(self.epoch)
            if at_end or self.step % self._agree_every == 0:
                verdict = self._meet(sink, at_end)
                if verdict is not None:
                    return verdict
        detail, answer = self._finish(sink)
        return Verdict("finished", self.step, detail, answer=answer)

    @property
    def _steps_per_s(self) -> float:
        """Steps per second of this epoch so far."""
        began, first = self._epoch_clock
        return (self.step - first) / max(time.monotonic() - began, 1e-9)

    def _step_(self) -> None:
        row = self._advance_()
        if row is not None:
            self._window[self._num_in_window].copy_(row)
        self._num_in_window += 1
        self._row_epochs.append(self.epoch)
        self.step += 1
        self.index += 1

    def _forget_commits(self) -> None:
        self._rows: list[NDArray[np.float32]] = []
        self._row_epochs: list[int] = []
        self._metrics: list[EpochMetrics] = []
        self._num_in_window = 0
        self._committed = self.step

    def _meet(self, sink: Sink, at_end: bool) -> Verdict | None:
        """Read rows and health from the device, agree with the other ranks; return a verdict if the run ends here."""
        if self._num_in_window:
            self._rows.append(self._window[: self._num_in_window].to("cpu", copy=True).numpy())
            self._num_in_window = 0
        agreed = self._agree(sink)
        if agreed.diverged:
            return self._diverged(agreed)
        if not agreed.healthy:
            verdict = self._non_finite(sink, agreed)
            if verdict is not None:
                return verdict
            at_end = self.index == self._schedule.num_steps(self.epoch)
        if at_end:
            self._end_epoch(sink)
        while agreed.pause and agreed.stop is None:
            time.sleep(_PAUSE_S)
            agreed = self._agree(sink)
        if agreed.stop in ("superseded", "store_given_up"):
            return Verdict("stopped", self.step, detail=agreed.stop)
        if at_end or agreed.commit or agreed.stop is not None:
            self._commit(sink, self.step)
        return None if agreed.stop is None else Verdict("stopped", self.step, detail=agreed.stop)

    def _agree(self, sink: Sink) -> Agreement:
        state = np.zeros(0, np.float32)  # one rank has nobody to compare with
        if self._collectives.shard.world_size > 1:
            state = self._agreed_state.detach().cpu().numpy()
        healthy, count = self._health
        return agree(self._collectives, sink.wants(), state, bool(healthy), int(count), self._device)

    def _end_epoch(self, sink: Sink) -> None:
        metrics = self._epoch_metrics()
        self.epoch += 1
        self.index = 0
        self._next_epoch_()
        self._epoch_clock = time.monotonic(), self.step
        self._metrics.append(metrics)
        sink.epoch(metrics)

    def _commit(self, sink: Sink, step: int) -> None:
        """Commit steps up to `step` through rank 0's sink; every rank takes part in gathering."""
        rows = step - self._committed
        if rows == 0 and not self._metrics:
            return
        tensors = self._gather()
        if self._collectives.shard.rank == 0:
            streams: dict[str, NDArray[np.float32]] = {}
            if self.stream is not None:
                whole = np.concatenate(self._rows)[:rows] if self._rows else np.zeros((0, self._width), np.float32)
                streams[self.stream] = whole
            sink.commit(
                Snapshot(
                    step=step,
                    epoch=self.epoch,
                    first_step=self._committed + 1,
                    rows=streams,
                    epochs=np.asarray(self._row_epochs[:rows], dtype=np.int32),
                    metrics=self._metrics,
                    tensors=tensors,
                    state=json.loads(json.dumps(self.state_dict())),
                )
            )
        self._forget_commits()

    def _diverged(self, agreed: Agreement) -> Verdict:
        ranks = list(agreed.diverged)
        message = f"the {self._agreed_name} of ranks {ranks} differ from rank 0's at step {self.step}"
        return _failed("divergence", self.step, RankDivergence(message, ranks=ranks, step=self.step))

    @property
    def _agreed_name(self) -> str:
        """What `_agreed_state` is, for messages."""
        return "weights"

    def _non_finite(self, sink: Sink, agreed: Agreement) -> Verdict | None:
        """Reset the loop to the step that failed; go on after it, or name the tensor and commit the steps before."""
        bad = self._started_at + agreed.num_healthy
        self.index -= self.step - bad
        self.step = bad
        if self._recover_():
            self._row_epochs = self._row_epochs[: bad + 1 - self._committed]
            self.step = self._started_at = bad + 1
            self.index += 1
            return None
        found, cause = self._find_non_finite()
        self._row_epochs = self._row_epochs[: bad - self._committed]
        self._commit(sink, bad)
        tensor = str(found["tensor"])
        verb = "are" if tensor in ("alphas", "weights") else "is"
        message = (
            f"{tensor} of rank {found['rank']} {verb} not finite in step {bad + 1}; "
            f"{cause}. The steps of epoch {self.epoch} before it: {self._describe_sums()}"
        )
        return _failed("non_finite", bad, NonFiniteStep(message, **found, step=bad + 1))

    @abc.abstractmethod
    def _describe_sums(self) -> str:
        """The metrics of the epoch's finite steps so far, for a message."""


def _failed(kind: Literal["non_finite", "divergence"], step: int, error: SearchError) -> Verdict:
    """Return the error as a verdict instead of raising it: Ray would retry the run after an exception."""
    return Verdict(kind, step, f"{type(error).__name__}: {error}", error.facts)
