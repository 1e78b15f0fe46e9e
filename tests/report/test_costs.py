"""Worker-seconds, lost or waiting time, starts and mixed hardware, from records with known times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_darts.artifacts.histories import RunHistory, read_histories
from ray_darts.artifacts.records import Environment
from ray_darts.report.costs import Costs, costs_text, phase_cost
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import EXPERIMENT, RUN, advance, claimed, finish, register

FAST = Environment(code="test", world_size=4, device_kind="gpu", threads=1, packages={"torch": "2.1"})


def at(second: float) -> str:
    return f"2026-01-01T00:{int(second) // 60:02d}:{second % 60:06.3f}+00:00"


def timed(history: RunHistory, *seconds: float) -> RunHistory:
    """The history with each record written at so many seconds after midnight."""
    pairs = zip(history.records, seconds, strict=True)
    records = tuple(record.model_copy(update={"written_at": at(second)}) for record, second in pairs)
    return replace(history, records=records)


@pytest.fixture
def history() -> RunHistory:
    """Two terms: claim, advance; then claim, advance, finish."""
    store = MemoryStore()
    register(store)
    advance(claimed(store), 3)
    writer = claimed(store)
    advance(writer, 9)
    finish(writer)
    (read,) = read_histories(store, EXPERIMENT)
    return read


def test_a_term_is_from_its_claim_to_its_last_record(history: RunHistory) -> None:
    cost = phase_cost("search", EXPERIMENT, [timed(history, 0, 60, 100, 160, 165)])
    assert (cost.runs, cost.finished, cost.starts) == (1, 1, 2)
    assert cost.worker_s == 60 + 65
    assert cost.lost_or_waiting_worker_s == 40
    assert cost.wall_s == 165
    assert cost.device_kinds == ("cpu",)
    assert cost.mixed == ()


def test_each_term_counts_by_its_own_world_size(history: RunHistory) -> None:
    before = timed(history, 0, 60, 100, 160, 165)
    records = tuple(
        record if n < 2 else record.model_copy(update={"environment": FAST}) for n, record in enumerate(before.records)
    )
    cost = phase_cost("search", EXPERIMENT, [replace(before, records=records)])
    assert cost.worker_s == 60 + 4 * 65
    assert cost.lost_or_waiting_worker_s == 40, "of the one worker that was lost"
    assert cost.mixed == (
        "device: cpu, gpu",
        "world size: 1, 4",
        "torch: 2.1, none",
    )


def test_lost_time_is_that_of_all_workers_of_the_term_before(history: RunHistory) -> None:
    before = timed(history, 0, 60, 100, 160, 165)
    records = tuple(
        record.model_copy(update={"environment": FAST}) if n < 2 else record for n, record in enumerate(before.records)
    )
    cost = phase_cost("search", EXPERIMENT, [replace(before, records=records)])
    assert cost.worker_s == 4 * 60 + 65
    assert cost.lost_or_waiting_worker_s == 4 * 40


def test_after_a_failure_nothing_is_lost(history: RunHistory) -> None:
    store = MemoryStore()
    register(store)
    writer = claimed(store)
    writer.fail("non_finite", "a loss is not finite")
    again = claimed(store, session="b", retry_failed=True)
    advance(again, 9)
    (read,) = read_histories(store, EXPERIMENT)
    cost = phase_cost("search", EXPERIMENT, [timed(read, 0, 10, 500, 520)])
    assert (cost.worker_s, cost.lost_or_waiting_worker_s, cost.finished) == (30, 0, 0)


def test_clocks_that_disagree_give_no_negative_time(history: RunHistory) -> None:
    cost = phase_cost("search", EXPERIMENT, [timed(history, 100, 160, 150, 170, 165)])
    assert (cost.worker_s, cost.lost_or_waiting_worker_s) == (60 + 15, 0)


def test_phases_add_up(history: RunHistory) -> None:
    first = phase_cost("search", "a", [timed(history, 0, 60, 100, 160, 165)])
    second = phase_cost("training", "b", [timed(history, 600, 601, 602, 603, 604)])
    costs = Costs((first, second))
    assert costs.worker_s == 125 + 3
    assert costs.wall_s == 604
    lines = costs_text(costs).splitlines()
    assert lines[0] == (
        "search (a): 2m05s of a worker; 1 run (1 finished), 2 starts; at most 40s of a worker repeated or waited "
        "between starts; cpu"
    )
    assert lines[2] == "all phases: 2m08s of a worker, 10m04s from first to last record"


def test_a_phase_without_a_run_costs_nothing() -> None:
    cost = phase_cost("selection", "a/selection", [])
    assert (cost.worker_s, cost.wall_s, cost.began) == (0, 0, None)
    assert Costs((cost,)).wall_s == 0


def test_records_have_the_times_of_their_writing(history: RunHistory) -> None:
    assert 0 <= phase_cost("search", EXPERIMENT, [history]).worker_s < 60
    assert history.run == RUN
