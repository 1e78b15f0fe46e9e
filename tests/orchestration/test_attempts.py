"""Lost drivers are counted by what was lost with them: a machine, or the process alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ray_darts.config import OperationSettings
from ray_darts.orchestration.assignment import ASSIGNMENTS
from ray_darts.orchestration.attempts import Attempt, UnstartedTrials, begin_attempt, one_too_many
from ray_darts.orchestration.starts import RunStarts, clear_starts
from tests.orchestration.key_values import KeyValues, key_values

RUNS = ("one", "two")


@pytest.fixture(autouse=True)
def kv(monkeypatch: pytest.MonkeyPatch) -> KeyValues:
    return key_values(monkeypatch)


def test_each_attempt_finds_those_before_it_and_tells_the_runs_how_the_last_one_ended() -> None:
    first, second = (RunStarts("session", run) for run in RUNS)
    assert begin_attempt("session", RUNS, "n0", {"n0", "n1"}) == []
    assert first.take_end() is None
    first.report_step(4)
    second.report_step(3)
    assert begin_attempt("session", RUNS, "n1", {"n0", "n1"}) == [Attempt("n0", 0)]
    assert (first.take_end(), second.take_end()) == ("process", "process")
    assert begin_attempt("session", RUNS, "n2", {"n0", "n2"}) == [Attempt("n0", 0), Attempt("n1", 7)]
    assert (first.take_end(), second.take_end()) == ("node", "node")
    assert begin_attempt("another", RUNS, "n0", {"n0"}) == []


@pytest.mark.parametrize(
    ("nodes", "step", "limits", "reason"),
    [
        ("aaa", 9, {}, "max_failures"),
        ("aa", 9, {}, None),
        ("d" * 19, 9, {}, None),
        ("daad", 9, {}, None),
        ("d" * 20, 0, {}, None),
        ("d" * 21, 0, {}, "max_idle_preemptions"),
        ("ddd", 9, {"max_preemptions": 2}, "max_preemptions"),
        ("dd", 9, {"max_preemptions": 2}, None),
        ("a", 9, {"max_failures": 0}, "max_failures"),
    ],
)
def test_which_attempt_is_one_too_many(nodes: str, step: int, limits: dict[str, int], reason: str | None) -> None:
    """`a`: an attempt on a machine that lives, `d`: on one that is gone; all began at step 0."""
    found = one_too_many([Attempt(node, 0) for node in nodes], step, {"a"}, OperationSettings.model_validate(limits))
    assert (found is None) if reason is None else reason in (found or "")


def test_a_trial_that_never_begins_is_not_started_for_ever() -> None:
    ends = UnstartedTrials("session", max_failures=2)
    trial = SimpleNamespace(config={ASSIGNMENTS: [{"run": "one"}]}, num_failures=0, max_failures=-1)

    def lose() -> int:
        trial.num_failures += 1
        ends.on_trial_recover(1, [], trial)  # type: ignore[arg-type]
        return int(trial.max_failures)

    for _ in range(4):
        begin_attempt("session", RUNS, "n0", {"n0"})
        assert lose() == -1
    assert [lose(), lose(), lose()] == [-1, -1, 0]


def test_the_end_of_a_command_leaves_no_attempt(kv: KeyValues) -> None:
    begin_attempt("session", RUNS, "n0", {"n0"})
    assert kv.values
    clear_starts("session")
    assert not kv.values
