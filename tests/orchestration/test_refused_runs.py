"""Runs that are refused, on which ranks, and with which world sizes a run may be continued."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.run_log import read_log
from ray_darts.errors import StoreDenied
from ray_darts.orchestration.assignment import Assignment, RunOutcome
from ray_darts.orchestration.run_execution import RankContext
from ray_darts.tasks.collectives import Collectives
from tests.orchestration.test_run_execution import RUN, STEPS, Stopping, eager
from tests.orchestration.tiny import EXPERIMENT, assigned, execute_here, search_here
from tests.search.ranks import RankProcesses


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_other_data_than_the_commands_is_refused(store: LocalStore) -> None:
    assignment = assigned(store)
    other = assignment.model_copy(update={"data_digests": {**assignment.data_digests, "split": "0" * 64}})
    outcome = search_here(other, store)
    assert outcome.kind == "refused"
    assert "every node must see the same data" in outcome.detail


def test_a_run_of_another_task_is_not_continued(store: LocalStore) -> None:
    assignment = assigned(store, eager())
    search_here(assignment, store, RankContext(hooks=Stopping(after=1)))
    outcome = search_here(assignment.model_copy(update={"task": "training"}), store)
    assert outcome.kind == "refused"
    assert "log is of the task 'search', not 'training'" in outcome.detail


class DeniedStore(LocalStore):
    """A folder that may be read and not written."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        raise StoreDenied(f"s3:PutObject is missing for {key}")


def test_a_missing_right_that_a_worker_finds_refuses_the_run(store: LocalStore) -> None:
    outcome = search_here(assigned(store), DeniedStore(Path(store.uri)))
    assert outcome.kind == "refused"
    assert "s3:PutObject" in outcome.detail


def outcome_on_rank(collectives: Collectives, plain: dict[str, object]) -> RunOutcome | None:
    assignment = Assignment.from_plain(plain)
    store = LocalStore(Path(assignment.store_uri))
    return execute_here(assignment, store, RankContext(collectives), world_size=2)


def test_every_rank_knows_how_a_run_ended_also_when_it_had_ended_before(
    store: LocalStore, ranks: RankProcesses
) -> None:
    """So that all ranks of a worker group go on to its next run, or none does."""
    assignment = assigned(store)
    for _ in range(2):
        first, second = ranks.run(2, outcome_on_rank, assignment.to_plain())
        assert first == RunOutcome("finished", step=STEPS)
        assert second is not None
        assert second.kind == "finished"


def test_local_batch_norm_is_not_continued_by_another_number_of_workers(store: LocalStore) -> None:
    assignment = assigned(store, eager())
    search_here(assignment, store, RankContext(hooks=Stopping(after=1)), world_size=2)
    refused = search_here(assignment, store)
    assert refused.kind == "refused"
    assert "--allow-world-size-change" in refused.detail
    allowed = assignment.model_copy(update={"allow_world_size_change": True})
    assert search_here(allowed, store).kind == "finished"
    worlds = [
        e.record.environment.world_size for e in read_log(store, RunKeys(EXPERIMENT, RUN)) if e.record.kind == "claim"
    ]
    assert worlds == [2, 1]


def test_synchronised_batch_norm_is_continued_by_any_number_of_workers(store: LocalStore) -> None:
    assignment = assigned(store, eager("search.batch_norm=sync"))
    search_here(assignment, store, RankContext(hooks=Stopping(after=1)), world_size=2)
    assert search_here(assignment, store).kind == "finished"
