"""Whole trainings in one process: published, verified, the same weights whatever ended them, the test set counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load

from ray_darts.artifacts.crash_points import set_crash_hook
from ray_darts.artifacts.keys import RunKeys, openings_prefix
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.status import run_status
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.errors import ConfigError, DataError
from ray_darts.orchestration.assignment import RunOutcome
from ray_darts.orchestration.run_execution import RankContext
from ray_darts.spaces.genotypes import published
from tests.orchestration.test_run_execution import Stopping, crash_at
from tests.orchestration.tiny import search_here
from tests.orchestration.training_runs import DOCUMENTS, TRAININGS, assigned_runs, document_digests, request_of
from tests.training.tiny import tiny_config, tiny_loop

EAGER = ("operation.commit_every_s=0", "operation.max_pending_commits=99")
STEPS = 12
CRASHES = [
    ("claim.after_record", 1),
    ("advance.before_part", 3),
    ("advance.between_checkpoint_files", 2),
    ("advance.after_record", 4),
    ("finish.before_record", 1),
    ("finish.acknowledged", 1),
    ("publish.before_result", 1),
    ("publish.before_weights_best", 1),
    ("publish.before_metrics", 1),
]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def no_hook() -> Iterator[None]:
    yield
    set_crash_hook(None)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of the weights of a training that nobody touched."""
    store = LocalStore(tmp_path_factory.mktemp("untouched"))
    (assignment,) = assigned_runs(store, request_of(store, tiny_config(*EAGER)))
    assert search_here(assignment, store) == RunOutcome("finished", step=STEPS)
    return document_digests(store, assignment.run)


def test_a_training_leaves_its_result_its_curves_and_weights_that_the_network_takes(store: LocalStore) -> None:
    (assignment,) = assigned_runs(store, request_of(store))
    assert search_here(assignment, store) == RunOutcome("finished", step=STEPS)
    assert verify_experiment(store, TRAININGS).clean
    keys = RunKeys(TRAININGS, assignment.run)
    assert all(store.exists(keys.document(name)) for name in DOCUMENTS)
    result = json.loads(store.get(keys.document("result.json")).data)
    assert result["genotype"] == assignment.coordinates.genotype
    assert result["metric"] == run_status(store, TRAININGS, assignment.run).metric.model_dump()  # type: ignore[union-attr]
    table = pq.read_table(pa.BufferReader(store.get(keys.document("metrics.parquet")).data))
    assert table.column("epoch").to_pylist() == [0, 1, 2]
    assert {"alpha_step_loss", "cells", "genotype", "order"}.isdisjoint(table.column_names)
    assert b"held-out" in table.schema.field("validation_loss").metadata[b"description"]
    assert table.column("validation_accuracy").to_pylist()[-1] == result["metric"]["value"]

    loop = tiny_loop(tiny_config())
    for which in ("last", "best"):
        data = store.get(keys.document(f"weights_{which}.safetensors")).data
        loop.network.load_state_dict(load(data))
        with torch.no_grad():
            scores = loop._validate() if loop.network.eval() else {}
        assert scores == pytest.approx(result["validation"][which])
    path = f"{store.uri}/{keys.document('weights_best.safetensors')}"
    with safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["ray_darts"])
    assert about["weights"] == "best"
    assert about["epoch"] == result["best_epoch"]


@pytest.mark.parametrize(("point", "visit"), CRASHES)
def test_a_crash_anywhere_changes_no_weight(
    store: LocalStore, untouched: dict[str, str], point: str, visit: int
) -> None:
    (assignment,) = assigned_runs(store, request_of(store, tiny_config(*EAGER)))
    crash_at(point, visit)
    assert search_here(assignment, store).kind == "error"
    assert search_here(assignment, store).kind == "finished"
    assert document_digests(store, assignment.run) == untouched
    assert verify_experiment(store, TRAININGS).clean


def test_a_stop_loses_no_step_and_changes_no_weight(store: LocalStore, untouched: dict[str, str]) -> None:
    (assignment,) = assigned_runs(store, request_of(store, tiny_config(*EAGER)))
    stopped = search_here(assignment, store, RankContext(hooks=Stopping(after=2)))
    assert stopped.kind == "interrupted"
    assert 0 < stopped.step < STEPS
    assert search_here(assignment, store).kind == "finished"
    assert document_digests(store, assignment.run) == untouched


def test_a_training_is_not_continued_as_a_search_nor_with_other_settings(store: LocalStore) -> None:
    request = request_of(store)
    (assignment,) = assigned_runs(store, request)
    search_here(assignment, store, RankContext(hooks=Stopping(after=2)))
    other = assignment.model_copy(update={"config": tiny_config("training.drop_path=0.1")})
    outcome = search_here(other, store)
    assert outcome.kind == "refused"
    assert "training.drop_path" in outcome.detail


def test_every_run_that_opens_the_test_set_is_counted_once(store: LocalStore) -> None:
    config = tiny_config("training.test=true", "data.test_fraction=0.2", *EAGER)
    assignments = assigned_runs(store, request_of(store, config, seeds=(0, 1)))
    first, second = assignments
    crash_at("finish.before_record", 1)
    assert search_here(first, store).kind == "error", "killed after it had opened the test set"
    for assignment in assignments:
        assert search_here(assignment, store).kind == "finished"
    digest = first.data_digests["data"]
    assert len(list(store.list_objects(openings_prefix(digest)))) == 2
    answers = [read_log(store, RunKeys(TRAININGS, each.run))[-1].record.answer for each in (first, second)]
    assert [answer["test"]["openings"] for answer in answers] == [1, 2]  # type: ignore[index, call-overload]


def test_a_training_without_a_test_opens_none(store: LocalStore) -> None:
    (assignment,) = assigned_runs(store, request_of(store))
    search_here(assignment, store)
    assert list(store.list_objects(openings_prefix(assignment.data_digests["data"]))) == []


def test_what_cannot_be_trained_is_refused(store: LocalStore) -> None:
    with pytest.raises(ConfigError, match="at least one genotype"):
        request_of(store, genotypes=()).check()
    with pytest.raises(ConfigError, match=r"space 'recurrent' cannot be trained"):
        request_of(store, genotypes=(published("DARTS_V1", "recurrent"),)).check()
    with pytest.raises(ConfigError, match="each once"):
        request_of(store, seeds=(1, 1)).check()


def test_a_selection_refuses_data_that_have_changed_since_the_search(store: LocalStore) -> None:
    request = request_of(store)
    changed = type(request)(
        request.config, TRAININGS, store.uri, request.genotypes, (0,), wanted_digests={"data": "0" * 64}
    )
    with pytest.raises(DataError, match="the data have changed since the search"):
        assigned_runs(store, changed)
