"""operation.kernel=auto: all ranks of a run compute with the compiled kernel or none does, from start to end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.run_log import read_log
from ray_darts.config import SearchConfig
from ray_darts.orchestration.assignment import Assignment, RunOutcome
from ray_darts.orchestration.run_execution import RankContext
from ray_darts.tasks.collectives import Collectives
from tests.orchestration.test_run_execution import RUN, Stopping, eager
from tests.orchestration.tiny import EXPERIMENT, assigned, execute_here, search_here, trace_digest
from tests.search.ranks import RankProcesses
from tests.spaces.test_kernel import needs_compiler

pytestmark = needs_compiler
WIDE = ("space.channels=16", "search.precision=float32")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def choices(store: LocalStore) -> list[object]:
    """The kernel that each claim of the run names."""
    log = read_log(store, RunKeys(EXPERIMENT, RUN))
    return [entry.record.environment.operation.get("kernel") for entry in log if entry.record.kind == "claim"]


def an_assignment(store: LocalStore, kernel: str) -> Assignment:
    return assigned(store, with_kernel(eager(*WIDE), kernel))


def with_kernel(config: SearchConfig, kernel: str) -> SearchConfig:
    return config.model_copy(update={"operation": config.operation.model_copy(update={"kernel": kernel})})


def on_rank(collectives: Collectives, plain: dict[str, object], without: int | None, stops: bool) -> RunOutcome | None:
    """One rank of a start; the rank `without` has no compiler."""
    before = os.environ["PATH"]
    if collectives.shard.rank == without:
        os.environ["PATH"] = "/nowhere"
    try:
        assignment = Assignment.from_plain(plain)
        context = RankContext(collectives, hooks=Stopping(after=1)) if stops else RankContext(collectives)
        return execute_here(assignment, LocalStore(Path(assignment.store_uri)), context, world_size=2)
    finally:
        os.environ["PATH"] = before


def test_a_run_whose_ranks_all_can_uses_the_kernel_and_says_so(tmp_path: Path) -> None:
    traces = {}
    for kernel in ("auto", "compiled", "torch"):
        store = LocalStore(tmp_path / kernel)
        assert search_here(an_assignment(store, kernel), store).kind == "finished"
        traces[kernel] = trace_digest(store, RUN)
        if kernel == "auto":
            assert choices(store) == ["compiled"]
    assert traces["auto"] == traces["compiled"]
    assert traces["auto"] != traces["torch"], "the last bits say which one computed"


def test_one_rank_without_a_compiler_means_none_for_all_and_for_ever(store: LocalStore, ranks: RankProcesses) -> None:
    plain = an_assignment(store, "auto").to_plain()
    for outcome in ranks.run(2, on_rank, plain, 1, True):
        assert outcome is not None
        assert outcome.kind == "interrupted", outcome
    for outcome in ranks.run(2, on_rank, plain, None, False):
        assert outcome is not None
        assert outcome.kind == "finished", outcome
    assert choices(store) == ["torch", "torch"]


def test_a_run_that_has_used_the_kernel_is_refused_where_a_rank_cannot(store: LocalStore, ranks: RankProcesses) -> None:
    plain = an_assignment(store, "auto").to_plain()
    ranks.run(2, on_rank, plain, None, True)
    for outcome in ranks.run(2, on_rank, plain, 1, False):
        assert outcome is not None
        assert outcome.kind == "refused"
        assert "which rank 1 cannot use: put a C++ compiler on every node" in outcome.detail
    assert choices(store) == ["compiled"], "a refused start claims nothing"
    plain = an_assignment(store, "torch").to_plain()
    assert {outcome.kind for outcome in ranks.run(2, on_rank, plain, 1, False) if outcome} == {"finished"}


def test_a_run_begun_without_the_kernel_goes_on_without_it(store: LocalStore) -> None:
    search_here(an_assignment(store, "torch"), store, RankContext(hooks=Stopping(after=1)))
    search_here(an_assignment(store, "auto"), store)
    assert [choice or "torch" for choice in choices(store)] == ["torch", "torch"]
