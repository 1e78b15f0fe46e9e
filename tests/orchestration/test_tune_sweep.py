"""What Ray Tune is given, and what its end means; no cluster is started."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from pathlib import Path

import pytest
from ray import tune
from ray.exceptions import RayActorError
from ray.tune import TuneError

from ray_darts.artifacts.local import LocalStore
from ray_darts.errors import ClusterLost
from ray_darts.orchestration import tune_sweep
from ray_darts.orchestration.assignment import ASSIGNMENTS, Assignment
from ray_darts.orchestration.reports import REPORT, RunReport, report_text
from ray_darts.orchestration.run import OUTCOMES, run_trial
from ray_darts.orchestration.tune_sweep import RunQueue, TuneSweep, grouped
from tests.orchestration.tiny import assigned


@pytest.fixture
def assignments(tmp_path: Path) -> list[Assignment]:
    store = LocalStore(tmp_path)
    return [assigned(store, seed=seed) for seed in range(3)]


class FailingSweep(TuneSweep):
    """A sweep whose Tuner raises."""

    def __init__(self, assignments: list[Assignment], error: Exception) -> None:
        super().__init__([assignments], 1)
        self._error = error

    def _tuner(self) -> tune.Tuner:
        raise self._error


def test_each_group_is_given_out_once_in_order_and_none_after_a_close(assignments: list[Assignment]) -> None:
    queue = RunQueue([assignments[:1], assignments[1:], assignments[:1]])
    assert queue.suggest("a") == {ASSIGNMENTS: [assignments[0].to_plain()]}
    assert queue.started == {"first-order-seed-0"}
    assert queue.suggest("b") == {ASSIGNMENTS: [assignment.to_plain() for assignment in assignments[1:]]}
    assert queue.started == {"first-order-seed-0", "first-order-seed-1", "first-order-seed-2"}
    queue.close()
    assert str(queue.suggest("c")) == "FINISHED"


def test_an_empty_queue_is_finished() -> None:
    assert str(RunQueue([]).suggest("a")) == "FINISHED"


@pytest.mark.parametrize("error", [RayActorError(), TuneError("no trial ran"), ConnectionError("the head is gone")])
def test_an_error_of_ray_is_a_lost_cluster(assignments: list[Assignment], error: Exception) -> None:
    with pytest.raises(ClusterLost, match="the same command continues"):
        FailingSweep(assignments, error).fit()


def test_a_bug_is_no_lost_cluster(assignments: list[Assignment]) -> None:
    with pytest.raises(ZeroDivisionError):
        FailingSweep(assignments, ZeroDivisionError()).fit()


def test_a_config_that_a_trial_refuses_is_an_outcome_that_is_not_retried(assignments: list[Assignment]) -> None:
    plain = assignments[0].to_plain()
    config = plain["config"]
    assert isinstance(config, dict)
    config["space"]["nodes"] = -1
    outcomes = run_trial({ASSIGNMENTS: [assignments[1].to_plain(), plain]})[OUTCOMES]
    assert isinstance(outcomes, dict)
    for run in ("first-order-seed-0", "first-order-seed-1"):
        assert outcomes[run]["kind"] == "refused"
        assert "nodes" in outcomes[run]["detail"]


def test_groups_are_as_large_as_allowed_and_leave_no_place_empty(assignments: list[Assignment]) -> None:
    def sizes(most: int, num_concurrent: int) -> list[int]:
        operation = assignments[0].config.operation.model_copy(update={"runs_per_start": most})
        config = assignments[0].config.model_copy(update={"operation": operation})
        changed = [assignment.model_copy(update={"config": config}) for assignment in assignments]
        groups = grouped(changed, num_concurrent)
        dealt = {assignment.run: number for number, group in enumerate(groups) for assignment in group}
        assert [dealt[each.run] for each in assignments] == [place % len(groups) for place in range(len(assignments))]
        return [len(group) for group in groups]

    assert sizes(1, 2) == [1, 1, 1]
    assert sizes(8, 1) == [3]
    assert sizes(8, 2) == [2, 1]
    assert sizes(8, 8) == [1, 1, 1]


def test_runs_that_take_no_time_share_one_group(assignments: list[Assignment]) -> None:
    first, second, third = assignments
    assert grouped(assignments, 3, {first.run, third.run}) == [[second], [first, third]]
    assert grouped(assignments, 3, {each.run for each in assignments}) == [assignments]


def test_what_lost_trials_have_reserved_is_freed_until_the_sweep_ends_whatever_a_look_raises(
    assignments: list[Assignment], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, enough = [], threading.Event()

    def free() -> int:
        looks.append(1)
        if len(looks) == 3:
            enough.set()
        raise ValueError("a bug") if len(looks) == 1 else RuntimeError("the head does not answer")

    class Waiting(TuneSweep):
        def _tuner(self) -> tune.Tuner:
            assert enough.wait(60)
            raise ConnectionError("the head is gone")

    monkeypatch.setattr(tune_sweep, "_FREE_EVERY_S", 0.001)
    monkeypatch.setattr(tune_sweep, "free_places_of_lost_trials", free)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    with pytest.raises(ClusterLost):
        Waiting([assignments], 1).fit()
    until_quiet = len(looks)
    time.sleep(0.1)
    assert len(looks) <= until_quiet + 1


def test_no_look_starts_ray(assignments: list[Assignment], monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> int:
        raise AssertionError("Ray is asked")

    monkeypatch.setattr(tune_sweep, "_FREE_EVERY_S", 0.001)
    monkeypatch.setattr(tune_sweep, "free_places_of_lost_trials", look)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    TuneSweep([assignments], 1)._free_lost_places()


def test_the_queue_knows_what_runs_have_reported_and_which_have_ended(assignments: list[Assignment]) -> None:
    queue = RunQueue([assignments[:2], assignments[2:]])
    first, second, third = (assignment.run for assignment in assignments)
    queue.suggest("a")
    queue.suggest("b")
    queue.on_trial_result("a", {"training_iteration": 1})
    assert queue.reports == {}, "a result of Ray alone says nothing of a run"
    queue.on_trial_result("a", {REPORT: report_text(first, {"epoch": 0}), "pid": 7})
    queue.on_trial_result("b", {REPORT: report_text(third, {"epoch": 4})})
    assert queue.reports[first] == RunReport(1, {"epoch": 0})
    queue.on_trial_result("a", {REPORT: report_text(second, {"epoch": 1})})
    assert queue.reports[first] == RunReport(2, {"epoch": 0}), "the run before it has probably ended"
    queue.on_trial_complete("a", {OUTCOMES: {}})
    assert queue.reports[first] == RunReport(3, {"epoch": 0}, is_over=True)
    assert queue.reports[second] == RunReport(2, {"epoch": 1}, is_over=True)
    assert not queue.reports[third].is_over
    queue.on_trial_complete("b", error=True)
    assert queue.reports[third].is_over
    queue.on_trial_complete("unknown")


def test_reports_travel_with_the_queue_as_ray_tune_pickles_it(assignments: list[Assignment]) -> None:
    queue = RunQueue([assignments])
    queue.reports.add(report_text("run", {"epoch": 0}))
    assert copy.deepcopy(queue).reports == {"run": RunReport(1, {"epoch": 0})}
    assert pickle.dumps(queue)
