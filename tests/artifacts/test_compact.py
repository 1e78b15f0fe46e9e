"""Finished runs let go of parts and checkpoints: what the log says then, what is deleted, and who still reads them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_darts.artifacts.answer import SEARCH_DOCUMENTS
from ray_darts.artifacts.best import read_best
from ray_darts.artifacts.collect import REPEATED, Collection, collect_experiment
from ray_darts.artifacts.compact import release
from ray_darts.artifacts.export import export_traces
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.log_rules import broken_rules
from ray_darts.artifacts.objects import sha256
from ray_darts.artifacts.publish import load_finished, publish_run
from ray_darts.artifacts.records import Record
from ray_darts.artifacts.run_log import find_tip, read_log
from ray_darts.artifacts.traces import read_row, read_rows
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.errors import CorruptObject, MissingObject, RunFinished
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import (
    EXPERIMENT,
    KEYS,
    LAYOUT,
    RUN,
    advance,
    alphas_after,
    check_alphas,
    claimed,
    register,
    whole_run,
)

WIDTH = LAYOUT.num_alphas


@pytest.fixture
def store() -> MemoryStore:
    """One whole, published run."""
    store = MemoryStore()
    register(store)
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    return store


def collect(store: MemoryStore, keep: int = 1, *, delete: bool = True, min_age_s: float = 0.0) -> Collection:
    return collect_experiment(store, EXPERIMENT, min_age_s, delete, compact=True, keep_finished_checkpoints=keep)


def below(store: MemoryStore, prefix: str) -> list[str]:
    return [key for key in store.objects if key.startswith(prefix)]


def tip_of(store: MemoryStore) -> Record:
    tip = find_tip(store, KEYS)
    assert tip is not None
    return tip.record


def test_parts_are_let_go_and_everything_that_reads_goes_on(store: MemoryStore) -> None:
    best, exported = read_best(store, EXPERIMENT, verify=True), export_traces(store, EXPERIMENT, RUN, None)
    finish_key, finish_data = KEYS.record(tip_of(store).n), store.objects[KEYS.record(tip_of(store).n)]
    collect(store)
    assert below(store, KEYS.parts) == []
    assert len(below(store, KEYS.checkpoints)) == 2
    log = read_log(store, KEYS)
    assert list(broken_rules([entry.record for entry in log])) == []
    assert (store.objects[finish_key], log[-1].finish_digest) == (finish_data, sha256(finish_data))
    check_alphas(read_rows(store, KEYS, log, WIDTH), 9)
    assert read_row(store, KEYS, log, WIDTH, 4) == alphas_after(4).tolist()
    assert verify_experiment(store, EXPERIMENT).problems == []
    assert read_best(store, EXPERIMENT, verify=True) == best
    assert export_traces(store, EXPERIMENT, RUN, None) == exported
    assert publish_run(store, EXPERIMENT, RUN) == []
    with pytest.raises(RunFinished):
        claimed(store, "later")
    assert load_finished(store, KEYS).finish_key == finish_key
    assert collect(store).num_objects == 0
    assert len(read_log(store, KEYS)) == len(log)


def test_a_release_says_more_than_the_one_before_and_the_finish_stays_the_first(store: MemoryStore) -> None:
    collect(store)
    first = tip_of(store)
    assert first.released is not None
    assert (first.released.streams, first.released.checkpoint) == (("alphas",), False)
    collect(store, keep=0)
    second = tip_of(store)
    assert second.released is not None
    assert second.n == first.n + 1
    assert second.released.checkpoint
    assert second.released.documents == first.released.documents
    assert (second.released.finish_n, second.released.finish_sha256) == (
        first.released.finish_n,
        first.released.finish_sha256,
    )
    assert second.model_dump(exclude={"n", "nonce", "previous_sha256", "released"}) == first.model_dump(
        exclude={"n", "nonce", "previous_sha256", "released"}
    )
    assert below(store, KEYS.checkpoints) == []
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_the_record_is_of_schema_3_and_those_before_keep_their_bytes(store: MemoryStore) -> None:
    before = {key: store.objects[key] for key in below(store, KEYS.log)}
    collect(store)
    assert tip_of(store).schema_version == 3
    assert {key: store.objects[key] for key in before} == before
    assert all(b'"schema_version":2' in data and b"trace_every" not in data for data in before.values())


def test_without_delete_nothing_changes_and_the_amounts_are_those_of_the_deletion(store: MemoryStore) -> None:
    before = dict(store.objects)
    planned = collect(store, keep=0, delete=False)
    assert store.objects == before
    done = collect(store, keep=0)
    assert (planned.kinds, planned.compacted, planned.garbage) == (done.kinds, 1, done.garbage)
    assert planned.kinds[REPEATED].objects == 5


def test_what_is_too_young_is_not_let_go(store: MemoryStore) -> None:
    before = dict(store.objects)
    assert collect(store, min_age_s=1.0).compacted == 0
    assert store.objects.pop(ExperimentKeys(EXPERIMENT).status), "the index of status is no part of a run"
    assert store.objects == before


@pytest.mark.parametrize("name", SEARCH_DOCUMENTS)
def test_what_is_not_published_is_not_let_go(store: MemoryStore, name: str) -> None:
    del store.objects[KEYS.document(name)]
    before = dict(store.objects)
    assert "is not published" in collect(store, keep=0).problems[RUN]
    assert {key: store.objects.get(key) for key in before if "/checkpoints/" not in key} == {
        key: data for key, data in before.items() if "/checkpoints/" not in key
    }


@pytest.mark.parametrize("column", ["alpha", "probability", "step"])
def test_a_trace_that_differs_in_one_value_stands_for_nothing(store: MemoryStore, column: str) -> None:
    table = pq.read_table(pa.BufferReader(store.objects[KEYS.alpha_trace]))
    place = table.column_names.index(column)
    values = table[column].to_numpy().copy()
    values[17] += 1
    changed = table.set_column(place, table.schema.field(column), pa.array(values))
    sink = pa.BufferOutputStream()
    pq.write_table(changed, sink)
    store.objects[KEYS.alpha_trace] = bytes(sink.getvalue())
    parts = below(store, KEYS.parts)
    assert "differs from what the log says" in collect(store).problems[RUN]
    assert below(store, KEYS.parts) == parts
    assert tip_of(store).released is None


def test_the_same_trace_in_other_bytes_stands_for_the_parts(store: MemoryStore) -> None:
    table = pq.read_table(pa.BufferReader(store.objects[KEYS.alpha_trace]))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="gzip")
    store.objects[KEYS.alpha_trace] = bytes(sink.getvalue())
    assert collect(store).problems == {}
    check_alphas(read_rows(store, KEYS, read_log(store, KEYS), WIDTH), 9)
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_a_zero_of_another_sign_is_another_trace(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    alphas = alphas_after
    monkeypatch.setattr("tests.artifacts.runs.alphas_after", lambda step: alphas(step) * (1 if step > 1 else 0))
    other = MemoryStore()
    register(other)
    whole_run(other)
    publish_run(other, EXPERIMENT, RUN)
    table = pq.read_table(pa.BufferReader(other.objects[KEYS.alpha_trace]))
    values = table["alpha"].to_numpy().copy()
    values[:WIDTH] *= -1
    assert (values == table["alpha"].to_numpy()).all()
    place = table.column_names.index("alpha")
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(place, table.schema.field("alpha"), pa.array(values)), sink)
    other.objects[KEYS.alpha_trace] = bytes(sink.getvalue())
    assert "differs" in collect(other).problems[RUN]


def test_runs_that_have_not_finished_let_nothing_go() -> None:
    store = MemoryStore()
    register(store)
    writer = claimed(store, "a")
    advance(writer, 4)
    before = dict(store.objects)
    collect(store, keep=0)
    writer.fail("non_finite", "NaN")
    collect(store, keep=0)
    assert release(store, KEYS, parts=True, checkpoint=True)[-1].record.kind == "fail"
    assert before.keys() <= store.objects.keys()


@pytest.mark.parametrize("repair", [False, True])
def test_verify_names_a_missing_trace_of_a_compacted_run_and_cannot_make_it_again(
    store: MemoryStore, repair: bool
) -> None:
    collect(store)
    del store.objects[KEYS.alpha_trace]
    (problem,) = verify_experiment(store, EXPERIMENT, repair).problems
    assert (problem.key, problem.repaired) == (KEYS.alpha_trace, False)
    assert "nothing can make it again" in problem.detail
    assert KEYS.alpha_trace not in store.objects
    with pytest.raises(MissingObject, match="nothing can make it again"):
        publish_run(store, EXPERIMENT, RUN)


@pytest.mark.parametrize("repair", [False, True])
def test_verify_names_a_changed_trace_of_a_compacted_run(store: MemoryStore, repair: bool) -> None:
    collect(store)
    store.objects[KEYS.alpha_trace] += b"?"
    (problem,) = verify_experiment(store, EXPERIMENT, repair).problems
    assert (problem.key, problem.repaired) == (KEYS.alpha_trace, False)
    assert store.objects[KEYS.alpha_trace].endswith(b"?")


def test_verify_repairs_what_the_log_of_a_compacted_run_can_still_make(store: MemoryStore) -> None:
    collect(store, keep=0)
    before = dict(store.objects)
    for key in (KEYS.genotype, KEYS.metrics):
        del store.objects[key]
    assert verify_experiment(store, EXPERIMENT, repair=True).clean
    assert store.objects == before


def test_a_log_that_releases_what_it_must_not_breaks_a_rule(store: MemoryStore) -> None:
    collect(store)
    log = [entry.record for entry in read_log(store, KEYS)]
    released = log[-1].released
    assert released is not None

    def rules(**changed: object) -> str:
        return "; ".join(broken_rules([*log[:-1], log[-1].model_copy(update=changed)]))

    assert "another finish" in rules(step=8)
    assert "names another finish" in rules(released=released.model_copy(update={"finish_sha256": "0" * 64}))
    assert "nothing more" in rules(released=released.model_copy(update={"streams": ()}))
    assert "follows a finish" in rules(released=None)
    early = [*log[:2], log[2].model_copy(update={"released": released})]
    assert any("has not finished" in rule for rule in broken_rules(early))
    twice = [*log, log[-1].model_copy(update={"n": log[-1].n + 1})]
    assert any("nothing more" in rule for rule in broken_rules(twice))


def test_a_record_of_schema_2_releases_nothing(store: MemoryStore) -> None:
    collect(store)
    key = KEYS.record(tip_of(store).n)
    data = store.objects[key].replace(b'"schema_version":3', b'"schema_version":2')
    with pytest.raises(CorruptObject, match="no fields of schema 2"):
        Record.from_bytes(data, key)
