from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ray_darts.artifacts.local import LocalStore
from ray_darts.errors import ConfigError
from ray_darts.orchestration.plan import SweepRequest, plan_sweep
from ray_darts.orchestration.run_queue import ASSIGNMENT, RunQueue
from ray_darts.orchestration.search_run import Place
from tests.orchestration.test_search_run import Stopping
from tests.orchestration.tiny import EXPERIMENT, assigned, search_here
from tests.search.searches import tiny_config


def request(store: str, **changed: object) -> SweepRequest:
    asked = SweepRequest(tiny_config(), EXPERIMENT, store, (0, 1), ("first", "second"))
    return replace(asked, **changed)  # type: ignore[arg-type]


def test_a_new_experiment_is_planned_longest_runs_first_and_nothing_is_written(tmp_path: Path) -> None:
    plan = plan_sweep(request(str(tmp_path / "store")))
    assert [run.run for run in plan.to_search] == [
        "second-order-seed-0",
        "second-order-seed-1",
        "first-order-seed-0",
        "first-order-seed-1",
    ]
    assert not (tmp_path / "store").exists()


def test_finished_failed_and_unfinished_runs_are_told_apart(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    search_here(assigned(store), store)
    search_here(assigned(store, seed=1), store, Place(surroundings=Stopping(after=1)))
    plan = plan_sweep(request(store.uri, orders=("first",), seeds=(0, 1, 2)))
    assert [run.run for run in plan.finished] == ["first-order-seed-0"]
    assert [run.run for run in plan.to_search] == ["first-order-seed-1", "first-order-seed-2"]


def test_a_failed_run_is_searched_again_only_on_request(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    config = tiny_config("weights.learning_rate=1e200", "weights.learning_rate_min=0", "weights.clip=1e300")
    search_here(assigned(store, config), store)
    asked = request(store.uri, config=config, seeds=(0,), orders=("first",))
    assert [run.run for run in plan_sweep(asked).failed] == ["first-order-seed-0"]
    assert plan_sweep(asked).to_search == ()
    assert len(plan_sweep(replace(asked, retry_failed=True)).to_search) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": ()}, "at least one seed"),
        ({"orders": ()}, "at least one seed and one order"),
        ({"seeds": (1, 1)}, "each once"),
        ({"seeds": (-1,)}, "at least 0"),
        ({"orders": ("third",)}, "first, second or both"),
        ({"experiment": "a/b"}, "a/b"),
        ({"experiment": ".."}, r"\.\."),
        ({"store_uri": "ftp://x"}, "ftp"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_sweep(request(str(tmp_path), **changed))


def test_elastic_workers_need_a_batch_norm_that_does_not_depend_on_them(tmp_path: Path) -> None:
    local = tiny_config("operation.workers=1:2")
    with pytest.raises(ConfigError, match=r"search\.batch_norm=sync"):
        plan_sweep(request(str(tmp_path), config=local))
    plan_sweep(request(str(tmp_path), config=local, allow_local_batch_norm=True))
    plan_sweep(request(str(tmp_path), config=tiny_config("operation.workers=1:2", "search.batch_norm=sync")))


def test_runs_wait_in_line_and_a_stop_ends_the_line(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assignments = [assigned(store, seed=seed) for seed in range(3)]
    stopped = False
    queue = RunQueue(assignments, lambda: stopped)
    first = queue.suggest("a")
    assert first == {ASSIGNMENT: assignments[0].to_plain()}
    assert queue.suggest("b") == {ASSIGNMENT: assignments[1].to_plain()}
    assert queue.started == {"first-order-seed-0", "first-order-seed-1"}
    stopped = True
    assert str(queue.suggest("c")) == "FINISHED"


def test_an_empty_line_is_finished(tmp_path: Path) -> None:
    assert str(RunQueue([], lambda: False).suggest("a")) == "FINISHED"
