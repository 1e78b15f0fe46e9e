"""The loop's owner in a run: says when to commit, to pause and to stop, and passes on what the loop tells.

The same object on every rank; only rank 0 has a committer. Knows no store, no Ray and no mathematics.
"""

from __future__ import annotations

import logging
import time

import torch

from ray_darts.config import Operation
from ray_darts.errors import Superseded
from ray_darts.orchestration.committer import Committer
from ray_darts.orchestration.logs import tell_epoch
from ray_darts.orchestration.surroundings import Surroundings
from ray_darts.search.collectives import Collectives
from ray_darts.search.sink import Snapshot, StopReason, Wants
from ray_darts.tasks.metrics import EpochMetrics

logger = logging.getLogger("ray_darts.orchestration")


class RunSink:
    """Answers the loop. `committer` is rank 0's; the other ranks have None."""

    def __init__(
        self,
        operation: Operation,
        collectives: Collectives,
        device: torch.device,
        surroundings: Surroundings,
        committer: Committer | None,
    ) -> None:
        self._operation, self._collectives, self._device = operation, collectives, device
        self._surroundings, self._committer = surroundings, committer
        self._last_commit = self._last_report = time.monotonic()
        self._told_of_loss = False

    def wants(self) -> Wants:
        """A commit every `commit_every_s`, and as often as the store takes them while a node is being taken away."""
        losing = self._surroundings.losing_node()
        if losing and not self._told_of_loss:
            self._told_of_loss = True
            logger.warning("a node of this run will be taken away: committing at every agreement until then")
        committer = self._committer
        if committer is None:
            return Wants(stop=self._surroundings.stop_asked())
        due = time.monotonic() - self._last_commit >= self._operation.commit_every_s
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
        return self._surroundings.stop_asked()

    def epoch(self, metrics: EpochMetrics) -> None:
        """Show the epoch; report it at most every `report_every_s` by rank 0's clock, since a report is a barrier."""
        tell_epoch(metrics.epoch)
        scalars = metrics.scalars()
        if self._committer is not None:
            for name, value in scalars.items():
                if isinstance(value, float | int):
                    self._surroundings.gauge(name, value)
        waited = torch.tensor([time.monotonic() - self._last_report], dtype=torch.float64, device=self._device)
        if float(self._collectives.all_rows(waited)[0]) >= self._operation.report_every_s:
            self._surroundings.report(scalars)
            self._last_report = time.monotonic()

    def commit(self, snapshot: Snapshot) -> None:
        """Hand the snapshot to the committer's thread."""
        assert self._committer is not None
        self._last_commit = time.monotonic()
        self._committer.submit(snapshot)
