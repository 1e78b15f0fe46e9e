"""Verification finds every kind of damage, and repair mends what is published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_darts.artifacts.best import Best
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import Stored
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.errors import MissingObject
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import EXPERIMENT, KEYS, PUBLISHED, RUN, advance, claimed, register, whole_run

BEST = ExperimentKeys(EXPERIMENT).best


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    register(store)
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    return store


def the(store: MemoryStore, fragment: str) -> str:
    """The last key with this fragment."""
    return next(key for key in sorted(store.objects, reverse=True) if fragment in key)


def test_an_untouched_experiment_is_clean(store: MemoryStore) -> None:
    report = verify_experiment(store, EXPERIMENT)
    assert report.clean
    assert report.problems == []
    (run,) = report.runs
    assert (run.run, run.state, run.records, run.step) == (RUN, "finished", 7, 9)


def test_an_unknown_experiment_is_missing(store: MemoryStore) -> None:
    with pytest.raises(MissingObject):
        verify_experiment(store, "other")


@pytest.mark.parametrize("fragment", ["/parts/", "tensors.safetensors", "state.json", "/log/000000000003"])
@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_damage_to_what_the_log_refers_to_is_found_and_cannot_be_repaired(
    store: MemoryStore, fragment: str, damage: str
) -> None:
    key = the(store, fragment)
    if damage == "gone":
        del store.objects[key]
    else:
        store.objects[key] = store.objects[key][:-1] + b"?"
    report = verify_experiment(store, EXPERIMENT, repair=True)
    assert not report.clean
    assert {problem.key for problem in report.problems if not problem.repaired} == {key}
    assert not verify_experiment(store, EXPERIMENT).clean


def _gone(store: MemoryStore, key: str) -> None:
    del store.objects[key]


def _truncated(store: MemoryStore, key: str) -> None:
    store.objects[key] = store.objects[key][:-20]


@pytest.mark.parametrize("damage", [_gone, _truncated])
@pytest.mark.parametrize("key", [*PUBLISHED, BEST], ids=["genotype", "trace", "metrics", "best"])
def test_a_damaged_publication_is_found_and_repaired(
    store: MemoryStore, key: str, damage: Callable[[MemoryStore, str], None]
) -> None:
    whole = store.objects[key]
    damage(store, key)
    found = verify_experiment(store, EXPERIMENT)
    assert [problem.key for problem in found.problems] == [key]
    assert not found.clean
    repaired = verify_experiment(store, EXPERIMENT, repair=True)
    assert repaired.clean
    assert [problem.repaired for problem in repaired.problems] == [True]
    assert store.objects[key] == whole
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_a_trace_with_one_other_alpha_is_found(store: MemoryStore) -> None:
    table = pq.read_table(pa.BufferReader(store.objects[KEYS.alpha_trace]))
    alphas = table["alpha"].to_numpy().copy()
    alphas[100] += 1
    column = table.schema.get_field_index("alpha")
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(column, table.schema.field(column), [pa.array(alphas)]), sink)
    store.objects[KEYS.alpha_trace] = bytes(sink.getvalue())
    assert [problem.key for problem in verify_experiment(store, EXPERIMENT).problems] == [KEYS.alpha_trace]


def test_the_same_trace_written_by_another_release_of_parquet_is_no_damage(store: MemoryStore) -> None:
    table = pq.read_table(pa.BufferReader(store.objects[KEYS.alpha_trace]))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="snappy")
    store.objects[KEYS.alpha_trace] = bytes(sink.getvalue())
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_a_best_that_is_not_the_best_is_found_and_repaired(store: MemoryStore) -> None:
    register(store, ("second-order-seed-4", 4))
    whole_run(store, run="second-order-seed-4", value=0.9)
    report = verify_experiment(store, EXPERIMENT)
    assert [problem.detail for problem in report.problems if problem.key == BEST] == [
        f"names {RUN}, but second-order-seed-4 is better"
    ]
    assert verify_experiment(store, EXPERIMENT, repair=True).clean
    assert Best.from_bytes(store.objects[BEST], BEST).run == "second-order-seed-4"


def test_a_best_of_a_run_that_has_not_finished_is_found(store: MemoryStore) -> None:
    best = Best.from_bytes(store.objects[BEST], BEST)
    store.put(BEST, best.model_copy(update={"record_key": KEYS.record(2)}).to_bytes())
    assert [problem.key for problem in verify_experiment(store, EXPERIMENT).problems]


def test_unfinished_runs_are_verified_too(store: MemoryStore) -> None:
    register(store, ("second-order-seed-4", 4), ("second-order-seed-5", 5))
    advance(claimed(store, run="second-order-seed-4"), 4)
    report = verify_experiment(store, EXPERIMENT)
    assert report.clean
    assert [(run.state, run.step) for run in report.runs] == [("finished", 9), ("unfinished", 4), ("waiting", 0)]


class _Lively(MemoryStore):
    """A writer goes on, and deletes old checkpoints, while the checkpoint of the end that was seen is looked for."""

    go_on: Callable[[], None] | None = None

    def get(self, key: str) -> Stored:
        if "tensors" in key and self.go_on is not None:
            act, self.go_on = self.go_on, None
            act()
        return super().get(key)


def test_a_checkpoint_deleted_by_a_live_writer_is_no_damage() -> None:
    store = _Lively()
    register(store)
    writer = claimed(store)
    advance(writer, 1)

    def go_on() -> None:
        for step in (2, 3, 4):
            advance(writer, step)

    store.go_on = go_on
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_a_folder_is_verified_like_a_bucket(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    register(store)
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    (tmp_path / KEYS.metrics).unlink()
    assert not verify_experiment(store, EXPERIMENT).clean
    assert verify_experiment(store, EXPERIMENT, repair=True).clean


@pytest.mark.parametrize("is_there", [True, False], ids=["swapped", "created"])
def test_a_repair_whose_answer_was_lost_is_a_repair(store: MemoryStore, is_there: bool) -> None:
    whole = store.objects[BEST]
    if is_there:
        _truncated(store, BEST)
    else:
        _gone(store, BEST)
    store.schedule = ["retried"]
    report = verify_experiment(store, EXPERIMENT, repair=True)
    assert [problem.repaired for problem in report.problems] == [True]
    assert report.clean
    assert store.objects[BEST] == whole


def test_a_repair_that_another_writer_undid_is_none(store: MemoryStore) -> None:
    _truncated(store, BEST)
    store.schedule = ["overtaken"]
    store.overtake = lambda: store.put(BEST, b"{}")
    report = verify_experiment(store, EXPERIMENT, repair=True)
    assert [problem.repaired for problem in report.problems] == [False]
    assert verify_experiment(store, EXPERIMENT, repair=True).clean
