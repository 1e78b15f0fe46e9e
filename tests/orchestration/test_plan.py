from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.open import open_store
from ray_darts.errors import ConfigError
from ray_darts.orchestration.plan import SweepPlan, plan_sweep
from ray_darts.orchestration.preflight import check_here
from ray_darts.orchestration.requests import SearchRequest
from ray_darts.orchestration.run_execution import RankContext
from ray_darts.protocols import registry
from tests.orchestration.test_run_execution import Stopping
from tests.orchestration.tiny import EXPERIMENT, assigned, search_here
from tests.search.searches import tiny_config


def request(store: str, **changed: object) -> SearchRequest:
    asked = SearchRequest(tiny_config(), EXPERIMENT, store, (0, 1), ("first", "second"))
    return replace(asked, **changed)  # type: ignore[arg-type]


def planned(asked: SearchRequest) -> SweepPlan:
    return plan_sweep(asked, open_store(asked.store_uri))


def test_a_new_experiment_is_planned_longest_runs_first_and_nothing_is_written(tmp_path: Path) -> None:
    plan = planned(request(str(tmp_path / "store")))
    assert [run.run for run in plan.to_do] == [
        "second-order-seed-0",
        "second-order-seed-1",
        "first-order-seed-0",
        "first-order-seed-1",
    ]
    assert not (tmp_path / "store").exists()


class Blind:
    """An operation whose result has no gradient."""

    name, parameter_free = "blind", True

    def build(self, channels: int, stride: int) -> torch.nn.Module:
        """A pool that is detached."""
        return torch.nn.Sequential(torch.nn.AvgPool2d(3, stride, 1), Detached())


class Detached(torch.nn.Module):
    """Stops the gradient."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Identity."""
        return maps.detach()


def test_an_operation_that_cannot_be_searched_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._registered["operation"], "blind", registry._Registered(Blind(), "here"))
    config = tiny_config('space.operations=["none","skip_connect","blind"]')
    store = LocalStore(tmp_path / "store")
    with pytest.raises(ConfigError, match="operation 'blind' cannot be searched: its output has no gradient"):
        check_here(config, 0, store)
    assert not (tmp_path / "store").exists()


def test_finished_failed_and_unfinished_runs_are_distinguished(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    search_here(assigned(store), store)
    search_here(assigned(store, seed=1), store, RankContext(hooks=Stopping(after=1)))
    plan = planned(request(store.uri, orders=("first",), seeds=(0, 1, 2)))
    assert [run.run for run in plan.finished] == ["first-order-seed-0"]
    assert [run.run for run in plan.to_do] == ["first-order-seed-1", "first-order-seed-2"]


def test_a_failed_run_is_searched_again_only_on_request(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    config = tiny_config("weights.learning_rate=1e200", "weights.learning_rate_min=0", "weights.clip=1e300")
    search_here(assigned(store, config), store)
    asked = request(store.uri, config=config, seeds=(0,), orders=("first",))
    assert [run.run for run in planned(asked).failed] == ["first-order-seed-0"]
    assert planned(asked).to_do == ()
    assert len(planned(replace(asked, retry_failed=True)).to_do) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": ()}, "at least one seed"),
        ({"orders": ()}, "at least one seed and one order"),
        ({"seeds": (1, 1)}, "each once"),
        ({"seeds": (-1,)}, "at least 0"),
        ({"orders": ("third",)}, "defines: first, second"),
        ({"experiment": "a/b"}, "a/b"),
        ({"experiment": ".."}, r"\.\."),
        ({"store_uri": "ftp://x"}, "ftp"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(request(str(tmp_path), **changed))


def test_elastic_workers_need_a_batch_norm_that_does_not_depend_on_them(tmp_path: Path) -> None:
    local = tiny_config("operation.workers=1:2")
    with pytest.raises(ConfigError, match=r"search\.batch_norm=sync"):
        planned(request(str(tmp_path), config=local))
    planned(request(str(tmp_path), config=local, allow_world_size_change=True))
    planned(request(str(tmp_path), config=tiny_config("operation.workers=1:2", "search.batch_norm=sync")))
