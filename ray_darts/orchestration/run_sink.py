"""Between the loop and the store: RunSink answers the loop, Committer makes its snapshots durable in a thread.

The loop never waits for an upload. During a store outage the Committer retries; a newer command's claim (Superseded)
or an outage longer than `give_up_s` ends the commits, and RunSink then asks the loop to stop.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch

from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.writer import RunWriter
from ray_darts.errors import StoreUnavailable, Superseded
from ray_darts.orchestration.rank_waiting import retry_during_outage, run_on_ranks
from ray_darts.orchestration.runtime_hooks import RuntimeHooks
from ray_darts.orchestration.telemetry import set_logged_epoch
from ray_darts.protocols.task import Snapshot, StopReason, Wants
from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.metrics import EpochMetrics

logger = logging.getLogger("ray_darts.orchestration")

_Result = TypeVar("_Result")

_FIRST_COMMIT_S = 10.0
_LOOK_S = 0.5


class Committer:
    """Commits snapshots in order; rank 0 only. Nobody else uses the writer until `close`.

    `committed`, if given, is called with (step, seconds) after
    each commit, on the committer's thread.
    """

    def __init__(
        self,
        writer: RunWriter,
        *,
        total_steps: int,
        max_pending: int,
        give_up_s: float,
        committed: Callable[[int, float], None] | None = None,
    ) -> None:
        self._writer, self._total_steps = writer, total_steps
        self._max_pending, self._give_up_s, self._committed = max_pending, give_up_s, committed
        self._queue: queue.SimpleQueue[Snapshot | None] = queue.SimpleQueue()
        self._pending = 0
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._seconds: float | None = None
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, daemon=True, name="committer")
        self._thread.start()

    @property
    def durable_step(self) -> int:
        """The last step that is in the store."""
        return self._writer.step

    @property
    def pending(self) -> int:
        """Number of snapshots that are not durable yet."""
        with self._lock:
            return self._pending

    @property
    def is_full(self) -> bool:
        """Whether `max_pending` snapshots wait, so that the ranks should pause."""
        return self.failure is None and self.pending >= self._max_pending

    def submit(self, snapshot: Snapshot) -> None:
        """Take a snapshot; returns at once. After a failure it is dropped."""
        with self._lock:
            self._pending += 1
        self._queue.put(snapshot)

    def close(self, patience_s: float = 0.0, stopped: Callable[[], object] = lambda: None) -> None:
        """Wait until everything submitted is durable; the writer may be used afterwards.

        Raises: the failure that ended the commits; StoreUnavailable `patience_s` after `stopped()` has become true,
        whatever a request to the store still waits for. Nothing may use the writer then.
        """
        self._queue.put(None)
        deadline: float | None = None
        while self._thread.is_alive():
            if deadline is None and stopped():
                deadline = time.monotonic() + patience_s
                if self.pending:
                    step = self.durable_step
                    logger.info("waiting for the last commit, %.0f s at most; step %d is durable", patience_s, step)
            left_s = _LOOK_S if deadline is None else min(_LOOK_S, deadline - time.monotonic())
            if left_s <= 0:
                self._given_up.set()
                raise StoreUnavailable(
                    f"the last commit took longer than {patience_s:g} s (operation.stop_patience_s); step "
                    f"{self.durable_step} is durable, the same command continues there",
                    step=self.durable_step,
                )
            self._thread.join(left_s)
        if self.failure is not None:
            raise self.failure

    def _work(self) -> None:
        while (snapshot := self._queue.get()) is not None:
            if self.failure is None and not self._given_up.is_set():
                try:
                    self._commit(snapshot)
                except Exception as error:
                    self.failure = error
                    logger.exception("step %d could not be committed", snapshot.step)
            with self._lock:
                self._pending -= 1

    def _commit(self, snapshot: Snapshot) -> None:
        began = time.monotonic()
        checkpoint = Checkpoint(snapshot.tensors, snapshot.state)

        def advance() -> None:
            self._writer.advance(
                snapshot.step,
                snapshot.rows,
                snapshot.epochs,
                snapshot.metrics,
                checkpoint,
                self._seconds,
                self._total_steps,
            )

        waiting = f"the commit of step {snapshot.step} (step {self.durable_step} is durable)"
        retry_during_outage(advance, self._give_up_s, waiting, stopped=self._given_up.is_set)
        self._seconds = time.monotonic() - began
        if self._committed is not None:
            self._committed(snapshot.step, self._seconds)


class RunSink:
    """Decides when to commit, pause and stop. The same object on every rank; only rank 0 has a `committer`."""

    def __init__(
        self,
        commit_every_s: float,
        report_every_s: float,
        collectives: Collectives,
        device: torch.device,
        hooks: RuntimeHooks,
        committer: Committer | None,
        record_opening: Callable[[str], int] = lambda digest: 1,
    ) -> None:
        """`record_opening(digest)`: counts the openings of a test set in the store."""
        self._record_opening = record_opening
        self._commit_every_s, self._report_every_s = commit_every_s, report_every_s
        self._collectives, self._device = collectives, device
        self._hooks, self._committer = hooks, committer
        self._last_commit = self._last_report = time.monotonic()
        self._interval_s = min(commit_every_s, _FIRST_COMMIT_S)
        self._logged_loss = False

    def wants(self) -> Wants:
        """A commit every `commit_every_s`, at first after 10 s, so that a run which is ended often gets on.

        At every agreement without a pending commit while a node is being lost.
        """
        losing = self._hooks.losing_node()
        if losing and not self._logged_loss:
            self._logged_loss = True
            logger.warning("a node of this run will be taken away: committing at every agreement until then")
        committer = self._committer
        if committer is None:
            return Wants(stop=self._hooks.stop_requested())
        due = time.monotonic() - self._last_commit >= self._interval_s
        return Wants(
            commit=due or (losing and committer.pending == 0),
            pause=committer.is_full,
            stop=self._stop(committer),
        )

    def _stop(self, committer: Committer) -> StopReason | None:
        if isinstance(committer.failure, Superseded):
            return "superseded"
        if committer.failure is not None:
            return "store_given_up"
        return self._hooks.stop_requested()

    def epoch(self, metrics: EpochMetrics) -> None:
        """Publish the epoch; report it, which is a barrier, at most every `report_every_s` by rank 0's clock."""
        set_logged_epoch(metrics.epoch)
        scalars = metrics.scalars()
        if self._committer is not None:
            for name, value in scalars.items():
                if isinstance(value, float | int):
                    self._hooks.gauge(name, value)
        waited = torch.tensor([time.monotonic() - self._last_report], dtype=torch.float64, device=self._device)
        if float(self._collectives.all_rows(waited)[0]) >= self._report_every_s:
            self._hooks.report(scalars)
            self._last_report = time.monotonic()

    def test_opened(self, digest: str) -> int | None:
        """Record the opening in the store, through outages, while the other ranks wait."""
        record = None if self._committer is None else partial(self._record_opening, digest)
        return run_on_ranks(self._collectives, record, self._device)

    def while_waiting(self, work: Callable[[], _Result]) -> _Result:
        """Do it in a thread while the ranks exchange keep-alives."""
        done = run_on_ranks(self._collectives, lambda: (work(),), self._device)
        assert done is not None
        return done[0]

    def commit(self, snapshot: Snapshot) -> None:
        """Hand the snapshot to the committer's thread."""
        assert self._committer is not None
        self._last_commit, self._interval_s = time.monotonic(), self._commit_every_s
        self._committer.submit(snapshot)
