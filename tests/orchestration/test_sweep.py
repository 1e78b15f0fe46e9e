"""Sweeps through real Ray Tune and Train: two workers a run over gloo, on one cluster for the session."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from numpy.typing import NDArray
from ray._private.utils import push_error_to_driver

from ray_darts.artifacts.keys import ExperimentKeys, RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import Stored
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.status import RunStatus
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.errors import ClusterError, ConfigError, DataError, StoreDenied
from ray_darts.orchestration.requests import SearchRequest
from ray_darts.orchestration.run_execution import RankContext
from ray_darts.orchestration.sweep import SweepResult, run_sweep
from tests.orchestration.test_run_execution import Stopping
from tests.orchestration.tiny import EXPERIMENT, assigned, search_here
from tests.search.searches import tiny_config

CONFIG = tiny_config("search.batch_norm=sync", "operation.commit_every_s=0", "operation.workers=2")
NOWHERE = "127.0.0.1:1"
GOOD, BROKEN = "first-order-seed-0", "first-order-seed-1"


def request(store: LocalStore, seeds: tuple[int, ...] = (0, 1), address: str | None = None) -> SearchRequest:
    return SearchRequest(CONFIG, EXPERIMENT, store.uri, seeds, ("first",), address=address)


def ignore(statuses: list[RunStatus]) -> None:
    """Watch nothing."""


def alphas(store: LocalStore, run: str) -> NDArray[np.float32]:
    found: NDArray[np.float32] = pq.read_table(Path(store.uri) / RunKeys(EXPERIMENT, run).alpha_trace)[
        "alpha"
    ].to_numpy()
    return found


def break_checkpoint(store: LocalStore, run: str) -> None:
    """Leave an interrupted run none of whose checkpoints is what its record says: every start of it fails alike."""
    search_here(assigned(store, CONFIG, seed=int(run[-1])), store, RankContext(hooks=Stopping(after=2)))
    checkpoints = [entry.record.checkpoint for entry in read_log(store, RunKeys(EXPERIMENT, run))]
    assert checkpoints[-1] is not None
    for checkpoint in filter(None, checkpoints):
        store.put(checkpoint.tensors.key, b"something else")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    store = LocalStore(tmp_path_factory.mktemp("alone"))
    search_here(assigned(store, CONFIG), store)
    return store


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> tuple[LocalStore, SweepResult, list[int]]:
    """Two runs at a time of two workers each, one of which can never succeed; and how many states were shown."""
    store = LocalStore(tmp_path_factory.mktemp("swept"))
    break_checkpoint(store, BROKEN)
    shown: list[int] = []

    def observe(statuses: list[RunStatus]) -> None:
        shown.append(len(statuses))
        print("observed")
        push_error_to_driver(ray._private.worker.global_worker, "test", "a report of Ray's own processes")

    with redirect_stdout(StringIO()) as printed:
        result = run_sweep(request(store), observe)
    assert printed.getvalue() == "observed\n" * len(shown), "an observer's output, and nothing of Ray's"
    return store, result, shown


def test_two_workers_through_ray_match_one_alone(
    swept: tuple[LocalStore, SweepResult, list[int]], alone: LocalStore
) -> None:
    store, result, shown = swept
    assert set(shown) == {2}
    assert result.outcomes[GOOD].kind == "finished"
    np.testing.assert_allclose(alphas(store, GOOD), alphas(alone, GOOD), rtol=0, atol=1e-9)
    records = [entry.record for entry in read_log(store, RunKeys(EXPERIMENT, GOOD))]
    assert [record.environment.world_size for record in records if record.kind == "claim"] == [2]
    assert result.best is not None
    assert result.best.run == GOOD
    assert {problem.run for problem in verify_experiment(store, EXPERIMENT).problems} == {BROKEN}


def test_ray_keeps_nothing_in_the_store(swept: tuple[LocalStore, SweepResult, list[int]]) -> None:
    store, _, _ = swept
    names = {listed.key.removeprefix(f"{EXPERIMENT}/").split("/")[0] for listed in store.list_objects("")}
    assert names == {"experiment.json", "best.json", "status.json", "runs", "sessions", "hours"}


def test_a_failing_run_costs_one_attempt_and_stops_no_other(swept: tuple[LocalStore, SweepResult, list[int]]) -> None:
    store, result, _ = swept
    assert result.outcomes[BROKEN].kind == "error"
    assert "CorruptObject" in result.outcomes[BROKEN].detail
    assert result.exit_code == 1
    kinds = [entry.record.kind for entry in read_log(store, RunKeys(EXPERIMENT, BROKEN))]
    assert kinds[-2:] == ["advance", "claim"]


def test_the_same_command_again_starts_no_ray_repairs_and_exits_0(
    swept: tuple[LocalStore, SweepResult, list[int]],
) -> None:
    store, result, _ = swept
    keys = RunKeys(EXPERIMENT, GOOD)
    trace = store.get(keys.alpha_trace).data
    store.delete(keys.alpha_trace)
    records = len(read_log(store, keys))
    again = run_sweep(request(store, seeds=(0,), address=NOWHERE), ignore)
    assert again.exit_code == 0
    assert again.best == result.best
    assert store.get(keys.alpha_trace).data == trace
    assert len(read_log(store, keys)) == records


def test_the_driver_opens_the_store_once(alone: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    open_folder = LocalStore.__init__

    def counted(store: LocalStore, root: Path) -> None:
        opened.append(root)
        open_folder(store, root)

    monkeypatch.setattr(LocalStore, "__init__", counted)
    run_sweep(request(alone, seeds=(0,), address=NOWHERE), ignore)
    assert opened == [Path(alone.uri)]


def test_a_denied_publication_of_a_finished_run_is_its_outcome_and_the_others_are_searched(
    alone: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LocalStore.get

    def deny_best(store: LocalStore, key: str) -> Stored:
        if key == ExperimentKeys(EXPERIMENT).best:
            raise StoreDenied(f"{store.uri} denies {key}")
        return read(store, key)

    monkeypatch.setattr(LocalStore, "get", deny_best)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):  # the search of seed 1
        run_sweep(request(alone, address=NOWHERE), ignore)
    again = run_sweep(request(alone, seeds=(0,), address=NOWHERE), ignore)
    assert again.outcomes[GOOD].kind == "refused"
    assert f"denies {EXPERIMENT}/best.json" in again.outcomes[GOOD].detail
    assert (again.exit_code, again.best) == (2, None)


def test_another_identity_under_the_name_is_refused_before_anything_starts(alone: LocalStore) -> None:
    other = tiny_config("search.batch_norm=sync", "alphas.learning_rate=0.5")
    with pytest.raises(ConfigError, match=r"alphas\.learning_rate: 0\.1 there, 0\.5 asked"):
        run_sweep(SearchRequest(other, EXPERIMENT, alone.uri, (5,), ("first",), address=NOWHERE), ignore)


def test_a_cluster_that_does_not_answer_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        run_sweep(request(LocalStore(tmp_path), address=NOWHERE), ignore)


def test_more_workers_than_the_cluster_can_have_are_refused_and_nothing_is_written(
    tmp_path: Path, ray_cluster: None
) -> None:
    store = LocalStore(tmp_path / "store")
    wide = tiny_config("search.batch_norm=sync", "operation.workers=7")
    with pytest.raises(ClusterError, match=r"7 workers of 1 CPU each.*never hold more than 4"):
        run_sweep(SearchRequest(wide, EXPERIMENT, store.uri, (0,), ("first",)), ignore)
    assert list(store.list_objects("")) == []


def test_data_that_cannot_be_opened_on_a_worker_are_refused_and_nothing_is_written(
    tmp_path: Path, ray_cluster: None
) -> None:
    store = LocalStore(tmp_path / "store")
    lost = tiny_config("data.source=folder", f"data.path={tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match="nowhere"):
        run_sweep(SearchRequest(lost, EXPERIMENT, store.uri, (0,), ("first",)), ignore)
    assert list(store.list_objects("")) == []
