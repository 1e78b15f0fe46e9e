"""Whole runs in one process: the same answer whatever ended them, wherever they were ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_darts.artifacts.best import read_best
from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.crash_points import CRASH_POINTS, set_crash_hook
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.run_log import MAX_IDLE_CLAIMS, read_log
from ray_darts.artifacts.status import run_status
from ray_darts.config import SearchConfig
from ray_darts.orchestration.assignment import RunOutcome
from ray_darts.orchestration.run_execution import RankContext
from ray_darts.orchestration.runtime_hooks import NoHooks
from ray_darts.protocols.task import RunCoordinates, StopReason
from tests.orchestration.tiny import EXPERIMENT, assigned, is_clean, published, search_here, trace_digest
from tests.search.searches import tiny_config

RUN = "first-order-seed-0"
STEPS = 9
CRASHES = [
    (point, visit)
    for point in CRASH_POINTS
    for visit in (1, 3)
    if not point.startswith("fail.") and (visit == 1 or point == "advance.before_record")
]


class Crash(Exception):
    """Raised at a crash point: from there on this start writes nothing more, just as if its process were lost."""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def no_hook() -> Iterator[None]:
    yield
    set_crash_hook(None)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    store = LocalStore(tmp_path_factory.mktemp("untouched"))
    assert search_here(assigned(store, eager()), store).kind == "finished"
    return published(store, RUN)


def eager(*overrides: str) -> SearchConfig:
    """Commits at every agreement: after steps 2, 3, 4, 6, 8 and 9."""
    return tiny_config("operation.commit_every_s=0", "operation.max_pending_commits=99", *overrides)


class Stopping(NoHooks):
    """Asks for a stop when it has been asked `after` times, and remembers its gauges and reports."""

    def __init__(self, after: int, reason: StopReason = "interrupted", losing: bool = False) -> None:
        self.after, self.reason, self.losing = after, reason, losing
        self.gauges: dict[str, float] = {}
        self.reports: list[Mapping[str, object]] = []
        self.durable = 0

    def stop_requested(self) -> StopReason | None:
        self.after -= 1
        return self.reason if self.after < 0 else None

    def losing_node(self) -> bool:
        return self.losing

    def report(self, metrics: Mapping[str, object]) -> None:
        self.reports.append(metrics)

    def gauge(self, name: str, value: float) -> None:
        self.gauges[name] = value

    def committed(self, step: int, seconds: float) -> None:
        self.durable = step


def crash_at(point: str, visit: int) -> None:
    visits = 0

    def hook(name: str) -> None:
        nonlocal visits
        visits += name == point
        if name == point and visits == visit:
            set_crash_hook(None)
            raise Crash(point)

    set_crash_hook(hook)


def test_a_run_leaves_a_genotype_its_history_and_the_best(store: LocalStore) -> None:
    assert search_here(assigned(store), store) == RunOutcome("finished", step=STEPS)
    assert is_clean(store)
    assert read_best(store, EXPERIMENT, verify=True).run == RUN
    status = run_status(store, EXPERIMENT, RUN)
    assert (status.state, status.step, status.total_steps) == ("finished", STEPS, STEPS)


def test_what_a_run_keeps_changes_no_result(store: LocalStore, untouched: dict[str, object]) -> None:
    config = eager("operation.trace_every_steps=4", "store.keep_finished_checkpoints=0")
    assignment = assigned(store, config)
    assert search_here(assignment, store, RankContext(hooks=Stopping(after=3))).kind == "interrupted"
    assert search_here(assignment, store).kind == "finished"
    keys = RunKeys(EXPERIMENT, RUN)
    kept, every = published(store, RUN), pq.read_table(pa.BufferReader(store.get(keys.alpha_trace).data))
    assert {name: kept[name] for name in kept if name != "trace"} == {
        name: untouched[name] for name in untouched if name != "trace"
    }
    assert sorted(set(every["step"].to_pylist())) == [3, 4, 6, 8, 9]
    last = read_log(store, keys)[-1].record.checkpoint
    assert last is not None
    assert not store.exists(last.tensors.key)
    collect_experiment(store, EXPERIMENT, 0.0, delete=True)
    assert list(store.list_objects(keys.checkpoints)) == []  # an earlier start had left one
    assert is_clean(store)
    assert search_here(assigned(store, config), store) == RunOutcome("finished", step=STEPS)
    assert sum(entry.record.released is not None for entry in read_log(store, keys)) == 1


def test_a_finished_run_is_not_searched_again(store: LocalStore) -> None:
    assignment = assigned(store)
    search_here(assignment, store)
    before = len(read_log(store, RunKeys(EXPERIMENT, RUN)))
    again = assigned(store)
    assert search_here(again, store) == RunOutcome("finished", step=STEPS)
    assert len(read_log(store, RunKeys(EXPERIMENT, RUN))) == before


@pytest.mark.parametrize(("point", "visit"), CRASHES)
def test_a_crash_anywhere_changes_nothing(
    store: LocalStore, untouched: dict[str, object], point: str, visit: int
) -> None:
    assignment = assigned(store, eager())
    crash_at(point, visit)
    crashed = search_here(assignment, store)
    assert (crashed.kind, crashed.detail) == ("error", f"Crash: {point}")
    assert crashed.step <= run_status(store, EXPERIMENT, RUN).step, "the last acknowledged record may not be the last"
    assert search_here(assignment, store).kind == "finished"
    assert published(store, RUN) == untouched
    assert is_clean(store)


@pytest.mark.parametrize(("asked", "step"), [(1, 2), (2, 3), (4, 6), (6, 9)])
def test_a_stop_anywhere_loses_no_step_and_changes_nothing(
    store: LocalStore, untouched: dict[str, object], asked: int, step: int
) -> None:
    assignment = assigned(store, eager())
    stopped = search_here(assignment, store, RankContext(hooks=Stopping(after=asked - 1)))
    assert stopped == RunOutcome("interrupted", f"resumable after step {step}", step)
    assert run_status(store, EXPERIMENT, RUN).step == step
    assert search_here(assignment, store).kind == "finished"
    assert published(store, RUN) == untouched


def test_a_budget_spent_is_reported_as_such(store: LocalStore) -> None:
    hooks = Stopping(after=1, reason="budget_spent")
    assert search_here(assigned(store), store, RankContext(hooks=hooks)).kind == "budget_spent"


def test_a_newer_command_wins_and_the_older_ends_as_superseded(store: LocalStore, untouched: dict[str, object]) -> None:
    older, newer = assigned(store, eager()), assigned(store, eager())

    class Overtaken(NoHooks):
        def __init__(self) -> None:
            self.outcome: RunOutcome | None = None

        def losing_node(self) -> bool:
            if self.outcome is None:
                self.outcome = RunOutcome("lost")
                self.outcome = search_here(newer, store)
            return False

    overtaken = Overtaken()
    assert search_here(older, store, RankContext(hooks=overtaken)).kind == "superseded"
    assert overtaken.outcome == RunOutcome("finished", step=STEPS)
    assert published(store, RUN) == untouched
    assert is_clean(store)


def test_a_session_that_was_displaced_does_not_come_back(store: LocalStore) -> None:
    older, newer = assigned(store), assigned(store)
    search_here(older, store, RankContext(hooks=Stopping(after=1)))
    search_here(newer, store, RankContext(hooks=Stopping(after=1)))
    assert search_here(older, store).kind == "superseded"


def test_while_a_node_is_being_lost_every_agreement_commits(store: LocalStore) -> None:
    hooks = Stopping(after=100, losing=True)
    search_here(assigned(store), store, RankContext(hooks=hooks))
    records = [entry.record for entry in read_log(store, RunKeys(EXPERIMENT, RUN))]
    steps = [record.step for record in records if record.kind == "advance"]
    assert set(steps) - {3, 6, 9}, "only epochs' ends were committed"


def test_a_run_publishes_its_numbers_and_reports_at_most_as_often_as_asked(store: LocalStore) -> None:
    often, seldom = Stopping(after=100), Stopping(after=100)
    search_here(assigned(store, tiny_config("operation.report_every_s=0.000001")), store, RankContext(hooks=often))
    other = LocalStore(Path(store.uri) / "other")
    search_here(assigned(other, tiny_config("operation.report_every_s=1000")), other, RankContext(hooks=seldom))
    assert (len(often.reports), len(seldom.reports)) == (3, 0)
    assert {"validation_accuracy", "steps_per_s", "normal.entropy"} <= seldom.gauges.keys()
    assert seldom.durable == STEPS


def test_nan_is_a_final_failure_with_its_reason_that_leaves_no_genotype(store: LocalStore) -> None:
    config = tiny_config("weights.learning_rate=1e200", "weights.learning_rate_min=0", "weights.clip=1e300")
    assignment = assigned(store, config)
    outcome = search_here(assignment, store)
    assert outcome.kind == "failed"
    assert "NonFiniteStep" in outcome.detail
    assert "as a rule weights.learning_rate (1e+200) or alphas.learning_rate (0.1) is too high" in outcome.detail
    assert "before it: train_loss " in outcome.detail
    assert not store.exists(RunKeys(EXPERIMENT, RUN).genotype)
    assert not store.exists(ExperimentKeys(EXPERIMENT).best)
    again = search_here(assigned(store, config), store)
    assert again.kind == "failed"
    assert "--retry-failed" in again.detail


IDLE = [point for point in CRASH_POINTS if point.startswith(("claim.after", "advance")) and "acknowledged" not in point]


def test_a_run_that_is_killed_before_its_first_commit_again_and_again_finishes(
    store: LocalStore, untouched: dict[str, object]
) -> None:
    assignment = assigned(store, eager())
    for point in [*IDLE[:-1], *IDLE[:-1]]:
        crash_at(point, 1)
        assert search_here(assignment, store).kind == "error"
    assert run_status(store, EXPERIMENT, RUN).step == 0
    assert search_here(assignment, store).kind == "finished"
    assert published(store, RUN) == untouched


def test_a_run_whose_starts_end_by_themselves_before_a_commit_fails(store: LocalStore) -> None:
    class Ended(NoHooks):
        previous_end = "itself"

    assignment = assigned(store, eager())
    for _ in range(MAX_IDLE_CLAIMS):
        crash_at("advance.before_record", 1)
        assert search_here(assignment, store, RankContext(hooks=Ended())).kind == "error"
    failed = search_here(assignment, store, RankContext(hooks=Ended()))
    assert failed.kind == "failed"
    assert "ended by themselves" in failed.detail


def damage_the_last_checkpoint(store: LocalStore) -> int:
    """Overwrite it as a broken disk would; its step."""
    tip = read_log(store, RunKeys(EXPERIMENT, RUN))[-1].record
    assert tip.checkpoint is not None
    store.put(tip.checkpoint.tensors.key, b"damaged")
    return tip.step


def test_a_damaged_checkpoint_costs_steps_and_changes_nothing(
    store: LocalStore, untouched: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    assignment = assigned(store, eager())
    search_here(assignment, store, RankContext(hooks=Stopping(after=3)))
    assert damage_the_last_checkpoint(store) == 6
    assert search_here(assignment, store) == RunOutcome("finished", step=STEPS)
    assert "checkpoint of step 6 cannot be read" in caplog.text
    assert published(store, RUN) == untouched
    assert is_clean(store)


def test_steps_that_are_computed_again_on_other_data_never_join_the_run(store: LocalStore) -> None:
    assignment = assigned(store, eager())
    search_here(assignment, store, RankContext(hooks=Stopping(after=3)))
    damage_the_last_checkpoint(store)
    before = read_log(store, RunKeys(EXPERIMENT, RUN))
    other = assignment.model_copy(update={"coordinates": RunCoordinates(seed=1, order="first")})
    outcome = search_here(other, store)
    assert outcome.kind == "error"
    assert "differ from the rows" in outcome.detail
    assert [entry.record.kind for entry in read_log(store, RunKeys(EXPERIMENT, RUN))[len(before) :]] == ["claim"]


def test_the_trace_digest_notices_a_changed_alpha(store: LocalStore, untouched: dict[str, object]) -> None:
    search_here(assigned(store, eager("alphas.learning_rate=0.0201")), store)
    assert trace_digest(store, RUN) != untouched["trace"]
