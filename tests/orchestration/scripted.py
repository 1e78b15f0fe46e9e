"""A sweep that does as a test says, and the Supervisor of one, for tests without Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.status import RunStatus
from ray_darts.orchestration.assignment import Assignment, RunOutcome
from ray_darts.orchestration.reports import RunReports
from ray_darts.orchestration.supervisor import Limits, Supervisor
from ray_darts.protocols.task import StopReason

RUNS = ("first-order-seed-0", "first-order-seed-1")
HOUR_S = 3600.0
BOUND_S = 20.0


class ScriptedSweep:
    """A sweep that does what `act` does in `fit`, and remembers what it was asked."""

    def __init__(self, act: Callable[[ScriptedSweep], Mapping[str, RunOutcome]]) -> None:
        self.started = set(RUNS)
        self.reports = RunReports()
        self.stopped = threading.Event()
        self.reasons: list[StopReason] = []
        self.cleared = 0
        self._act = act

    def fit(self) -> Mapping[str, RunOutcome]:
        return self._act(self)

    def request_stop(self, reason: StopReason) -> None:
        self.reasons.append(reason)
        self.stopped.set()

    def clear_stop(self) -> None:
        self.cleared += 1

    def describe_waiting(self) -> str | None:
        return "waiting for 2 CPUs"


def ignore(statuses: list[RunStatus]) -> None:
    """Show nothing."""


def supervise(
    sweep: ScriptedSweep,
    assignments: list[Assignment],
    store: ObjectStore,
    limits: Limits,
    observer: Callable[[list[RunStatus]], None] = ignore,
) -> Supervisor:
    statuses = [RunStatus(run, "waiting") for run in RUNS]
    return Supervisor(sweep, assignments, store, statuses, observer, limits)


def until_stopped(sweep: ScriptedSweep) -> Mapping[str, RunOutcome]:
    """Every run ends when it is asked to."""
    assert sweep.stopped.wait(BOUND_S), "the sweep was not stopped"
    return {run: RunOutcome("budget_spent", "resumable after step 4", 4) for run in RUNS}


def never_ends(sweep: ScriptedSweep) -> Mapping[str, RunOutcome]:
    threading.Event().wait(BOUND_S)
    return {}
