"""What a command will do, from config and store alone: which runs are finished, failed or still to be done.

Writes nothing and starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_darts.artifacts.experiment import read_experiment
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.status import RunStatus
from ray_darts.artifacts.statuses import RunStatuses
from ray_darts.errors import MissingObject
from ray_darts.orchestration.requests import RequestedRun, SweepRequest, check_identity
from ray_darts.protocols.method import Order


@dataclass(frozen=True)
class PlannedRun:
    """A requested run and its status in the store."""

    requested: RequestedRun
    status: RunStatus

    @property
    def run(self) -> str:
        """Its name."""
        return self.requested.run

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.requested.coordinates.seed

    @property
    def order(self) -> Order | None:
        """The order of its alpha gradient; None where there is none."""
        return self.requested.coordinates.order


@dataclass(frozen=True)
class SweepPlan:
    """All runs of a request, in its order."""

    request: SweepRequest
    runs: tuple[PlannedRun, ...]

    @property
    def finished(self) -> tuple[PlannedRun, ...]:
        """Never done again; their publications are repaired."""
        return tuple(run for run in self.runs if run.status.state == "finished")

    @property
    def failed(self) -> tuple[PlannedRun, ...]:
        """Failed for good, and no retry is asked for."""
        return () if self.request.retry_failed else tuple(run for run in self.runs if run.status.state == "failed")

    @property
    def to_do(self) -> tuple[PlannedRun, ...]:
        """New or unfinished; the longest runs (second order) start first, so that few workers idle at the end."""
        ended = {run.run for run in (*self.finished, *self.failed)}
        left = (run for run in self.runs if run.run not in ended)
        return tuple(sorted(left, key=lambda run: -run.requested.weight))


def plan_sweep(request: SweepRequest, store: ObjectStore) -> SweepPlan:
    """Check a request against itself and its store.

    Raises: ConfigError (no run, an unknown order, another identity under this name, elastic workers with local
    batch norm), StoreError.
    """
    request.check()
    _check_identity(request, store)
    known = RunStatuses(store, request.experiment)
    known.read_index()
    statuses = known.read_all([run.run for run in request.runs])
    return SweepPlan(request, tuple(map(PlannedRun, request.runs, statuses)))


def _check_identity(request: SweepRequest, store: ObjectStore) -> None:
    """Compare with the experiment of this name, if there is one; the data's digests are compared once it is open."""
    try:
        there = read_experiment(store, request.experiment)
    except MissingObject:
        return
    check_identity(there, request.config)
