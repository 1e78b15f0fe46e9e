"""The driver's supervision of a sweep: limits, stops, a lost cluster and crashes, without Ray."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.artifacts.writer import claim_run
from ray_darts.errors import ClusterLost, SweepCrashed
from ray_darts.exit_codes import exit_code_of_error
from ray_darts.orchestration.assignment import Assignment, RunOutcome, owner_of
from ray_darts.orchestration.run_execution import RankContext
from ray_darts.orchestration.spending import Budgets
from ray_darts.orchestration.supervisor import Limits
from tests.orchestration.scripted import (
    BOUND_S,
    HOUR_S,
    RUNS,
    ScriptedSweep,
    never_ends,
    supervise,
    until_stopped,
)
from tests.orchestration.test_run_execution import Stopping
from tests.orchestration.tiny import ALONE, EXPERIMENT, assigned, search_here


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def assignments(store: LocalStore) -> list[Assignment]:
    first = assigned(store)
    return [first.model_copy(update={"run": run, "seed": seed}) for seed, run in enumerate(RUNS)]


def raises(error: BaseException) -> Callable[[ScriptedSweep], Mapping[str, RunOutcome]]:
    def act(sweep: ScriptedSweep) -> Mapping[str, RunOutcome]:
        raise error

    return act


QUICK = Limits(observe_s=0.001)


def limited(**seconds: float) -> Limits:
    """Budgets in seconds."""
    return Limits(Budgets(**{name: amount / HOUR_S for name, amount in seconds.items()}), observe_s=0.001)


def claim(store: LocalStore, assignment: Assignment, world_size: int) -> None:
    environment = ALONE.model_copy(update={"world_size": world_size})
    claim_run(store, EXPERIMENT, assignment.run, owner_of(assignment.session), "d" * 64, environment)


@pytest.mark.parametrize(
    "error", [ValueError("a mistake"), RuntimeError("a mistake"), OSError("a mistake"), SystemExit("a mistake")]
)
def test_an_unexpected_error_is_a_crash_with_its_type_and_text(
    error: BaseException, store: LocalStore, assignments: list[Assignment]
) -> None:
    sweep = ScriptedSweep(raises(error))
    with pytest.raises(SweepCrashed, match=f"{type(error).__name__}: a mistake") as crash:
        supervise(sweep, assignments, store, QUICK).run()
    assert crash.value.__cause__ is error
    assert exit_code_of_error(crash.value) == 1
    assert sweep.cleared == 1


def test_a_lost_cluster_stays_a_lost_cluster(store: LocalStore, assignments: list[Assignment]) -> None:
    with pytest.raises(ClusterLost, match="the head is gone") as lost:
        supervise(ScriptedSweep(raises(ClusterLost("the head is gone"))), assignments, store, QUICK).run()
    assert exit_code_of_error(lost.value) == 1


def test_a_crash_after_a_stop_is_a_crash_too(store: LocalStore, assignments: list[Assignment]) -> None:
    def act(sweep: ScriptedSweep) -> Mapping[str, RunOutcome]:
        sweep.stopped.wait(BOUND_S)
        raise KeyError("run")

    with pytest.raises(SweepCrashed, match="KeyError"):
        supervise(ScriptedSweep(act), assignments, store, limited(hours=0.001)).run()


def test_a_sweep_that_ends_returns_each_runs_outcome(store: LocalStore, assignments: list[Assignment]) -> None:
    outcomes = {run: RunOutcome("finished", step=9) for run in RUNS}
    assert supervise(ScriptedSweep(lambda sweep: outcomes), assignments, store, QUICK).run() == outcomes


def test_a_run_without_a_result_is_an_error_unless_a_stop_was_asked_for(
    store: LocalStore, assignments: list[Assignment]
) -> None:
    sweep = ScriptedSweep(lambda sweep: {RUNS[0]: RunOutcome("finished", step=9)})
    outcomes = supervise(sweep, assignments, store, QUICK).run()
    assert (outcomes[RUNS[0]].kind, outcomes[RUNS[1]].kind) == ("finished", "error")


def test_max_hours_stops_the_sweep_as_a_budget_spent(store: LocalStore, assignments: list[Assignment]) -> None:
    sweep = ScriptedSweep(until_stopped)
    began = time.monotonic()
    outcomes = supervise(sweep, assignments, store, limited(hours=0.02)).run()
    assert time.monotonic() - began >= 0.02
    assert sweep.reasons == ["budget_spent"]
    assert {outcome.kind for outcome in outcomes.values()} == {"budget_spent"}


def test_max_worker_hours_counts_every_worker_of_this_session(store: LocalStore, assignments: list[Assignment]) -> None:
    claim(store, assignments[0], world_size=3)
    claim(store, assignments[1], world_size=2)
    sweep = ScriptedSweep(until_stopped)
    began = time.monotonic()
    supervise(sweep, assignments, store, limited(worker_hours=0.5)).run()
    assert sweep.reasons == ["budget_spent"]
    assert time.monotonic() - began >= 0.5 / 5


def test_workers_of_another_session_cost_this_one_nothing(store: LocalStore, assignments: list[Assignment]) -> None:
    claim(store, assigned(store), world_size=50)

    def act(sweep: ScriptedSweep) -> Mapping[str, RunOutcome]:
        sweep.stopped.wait(0.1)
        return {}

    sweep = ScriptedSweep(act)
    supervise(sweep, assignments, store, limited(worker_hours=0.01)).run()
    assert sweep.reasons == []


def test_the_time_of_a_slow_observer_counts_as_worker_hours(store: LocalStore, assignments: list[Assignment]) -> None:
    claim(store, assignments[0], world_size=1)
    passes = 0

    def slow(statuses: list[RunStatus]) -> None:
        nonlocal passes
        passes += 1
        time.sleep(0.1)

    sweep = ScriptedSweep(until_stopped)
    supervise(sweep, assignments, store, limited(worker_hours=0.25), slow).run()
    assert 4 <= passes <= 6, "0.25 s are two to three passes of 0.1 s, the one that sees the end, and the last look"


def test_after_the_grace_of_a_stop_every_unanswered_run_has_an_outcome(
    store: LocalStore, assignments: list[Assignment]
) -> None:
    sweep = ScriptedSweep(never_ends)
    limits = Limits(budgets=Budgets(hours=0.001 / HOUR_S), observe_s=0.001, stop_grace_s=0.03)
    began = time.monotonic()
    outcomes = supervise(sweep, assignments, store, limits).run()
    assert 0.03 <= time.monotonic() - began < BOUND_S
    assert outcomes == dict.fromkeys(RUNS, RunOutcome("budget_spent", "ended before the run began or answered"))
    assert sweep.cleared == 1


def test_the_first_signal_stops_the_sweep_and_the_second_ends_the_command(
    store: LocalStore, assignments: list[Assignment]
) -> None:
    def interrupt(statuses: list[RunStatus]) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    sweep = ScriptedSweep(never_ends)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        supervise(sweep, assignments, store, QUICK, interrupt).run()
    assert sweep.reasons == ["interrupted"]
    assert sweep.cleared == 1
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_step_of_an_outcome_is_the_durable_one_whoever_reports_the_end(
    store: LocalStore, assignments: list[Assignment]
) -> None:
    search_here(assignments[0], store, RankContext(hooks=Stopping(after=2)))
    durable = run_status(store, EXPERIMENT, RUNS[0]).step
    sweep = ScriptedSweep(lambda sweep: {RUNS[0]: RunOutcome("lost", "its process died")})
    outcomes = supervise(sweep, assignments, store, QUICK).run()
    assert durable > 0
    assert outcomes[RUNS[0]] == RunOutcome("lost", "its process died", durable)


def test_a_run_that_had_finished_before_its_group_was_lost_is_finished(
    store: LocalStore, assignments: list[Assignment]
) -> None:
    step = search_here(assignments[0], store).step
    sweep = ScriptedSweep(lambda sweep: dict.fromkeys(RUNS[:2], RunOutcome("lost", "its process died")))
    outcomes = supervise(sweep, assignments, store, QUICK).run()
    assert outcomes[RUNS[0]] == RunOutcome("finished", step=step)
    assert outcomes[RUNS[1]].kind == "lost"


def test_waiting_demand_is_logged(
    store: LocalStore, assignments: list[Assignment], caplog: pytest.LogCaptureFixture
) -> None:
    sweep = ScriptedSweep(until_stopped)
    limits = Limits(budgets=Budgets(hours=1 / HOUR_S), observe_s=0.001, log_waiting_s=0.0)
    with caplog.at_level("INFO", "ray_darts.orchestration"):
        supervise(sweep, assignments, store, limits).run()
    assert "waiting for 2 CPUs" in caplog.text
