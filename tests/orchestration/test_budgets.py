"""A budget holds over commands and kills: its sum is that of the log, and more of it goes on with what it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_darts.artifacts.best import read_best
from ray_darts.artifacts.histories import read_histories
from ray_darts.artifacts.hours import read_hours, seconds_at_work
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.status import run_status
from ray_darts.report.costs import phase_cost
from tests.orchestration.job import RUN, StartJob, until
from tests.orchestration.tiny import EXPERIMENT, is_clean

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LONG = ("search.epochs=5000", "operation.commit_every_s=1", "operation.prices={'*'=3600.0}")
WORKERS = 2


def test_a_budget_is_kept_over_a_kill_and_two_commands(tmp_path: Path, start_job: StartJob) -> None:
    store = LocalStore(tmp_path / "store")
    killed = start_job(store, *LONG)
    until(store, lambda s: s.epoch is not None and s.spent.worker_s > 0, killed)
    killed.kill_as_a_whole()
    spent_before = run_status(store, EXPERIMENT, RUN).spent
    budget_s = spent_before.worker_s + 24.0 * WORKERS
    limited = (*LONG, f"operation.max_worker_hours={budget_s / 3600}", f"operation.max_cost={10 * budget_s}")

    code, outcomes = start_job(store, *limited).end()
    assert code == 77, outcomes
    assert outcomes[RUN]["kind"] == "budget_spent"
    status = run_status(store, EXPERIMENT, RUN)
    assert status.claims == 2
    assert budget_s <= status.spent.worker_s
    cost = phase_cost("search", EXPERIMENT, read_histories(store, EXPERIMENT))
    assert status.spent.worker_s == pytest.approx(cost.worker_s, abs=2.0), "the sum is that of the log's own times"
    shares = {status.environment.price_per_hour for status in [status] if status.environment is not None}
    assert all(share is not None and 0 < share <= WORKERS * 3600.0 for share in shares)
    hours = read_hours(store, EXPERIMENT)
    assert {each.session for each in hours} <= set(status_sessions(store))
    assert seconds_at_work(hours) > 0
    best = read_best(store, EXPERIMENT, verify=True)
    assert (best.run, best.metric.ranking) == (RUN, "unfinished")

    again = start_job(store, *limited)
    assert again.end()[0] == 77
    assert run_status(store, EXPERIMENT, RUN).claims == 2, "nothing is started for a budget that is spent"

    more = start_job(store, *LONG, f"operation.max_worker_hours={4 * budget_s / 3600}")
    until(store, lambda s: s.claims == 3 and s.step > status.step, more)
    more.interrupt()
    assert more.end()[0] == 130
    assert is_clean(store)


def status_sessions(store: LocalStore) -> list[str]:
    """Every session that has claimed the run."""
    (history,) = read_histories(store, EXPERIMENT)
    return [record.owner.session for record in history.records]
