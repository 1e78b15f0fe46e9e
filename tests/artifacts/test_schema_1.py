"""Runs of schema 1, as ray_darts 0.1 wrote them, are read, verified, published and continued."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_darts.artifacts.best import read_best
from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.datasets import trace_dataset
from ray_darts.artifacts.documents import canonical_json
from ray_darts.artifacts.experiment import read_experiment, read_run
from ray_darts.artifacts.export import export_traces
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.log_rules import broken_rules
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.records import Record
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.statuses import experiment_status
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.errors import CorruptObject

FIXTURE = Path(__file__).parents[1] / "data" / "schema_1"
EXPERIMENT = "tiny"
FINISHED = ("first-order-seed-0", "second-order-seed-0")
UNFINISHED = "first-order-seed-1"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A copy of the fixture that a test may change."""
    shutil.copytree(FIXTURE / EXPERIMENT, tmp_path / EXPERIMENT)
    return LocalStore(tmp_path)


def raw_record(run: str, n: int) -> dict[str, object]:
    """A record of the fixture as plain data."""
    plain: dict[str, object] = json.loads((FIXTURE / RunKeys(EXPERIMENT, run).record(n)).read_bytes())
    return plain


def test_the_fixture_has_schema_1() -> None:
    for run in (*FINISHED, UNFINISHED):
        assert raw_record(run, 0)["schema_version"] == 1


def test_an_experiment_of_schema_1_verifies_clean(store: LocalStore) -> None:
    report = verify_experiment(store, EXPERIMENT)
    assert report.problems == []
    assert {run.run: (run.state, run.step) for run in report.runs} == {
        FINISHED[0]: ("finished", 9),
        FINISHED[1]: ("finished", 9),
        UNFINISHED: ("unfinished", 4),
    }


def test_damage_to_a_part_of_schema_1_is_found(store: LocalStore) -> None:
    part = read_log(store, RunKeys(EXPERIMENT, FINISHED[0]))[1].record.streams["alphas"][0]
    store.put(part.key, store.get(part.key).data[:-1])
    assert [problem.key for problem in verify_experiment(store, EXPERIMENT).problems] == [part.key]


def test_the_best_and_the_status_of_schema_1_are_read(store: LocalStore) -> None:
    best = read_best(store, EXPERIMENT, verify=True)
    assert best.run in FINISHED
    assert best.metric.direction == "max"
    statuses = {status.run: status for status in experiment_status(store, EXPERIMENT)}
    for run in FINISHED:
        metric = statuses[run].metric
        assert metric is not None
        plain = raw_record(run, 4)["metric"]
        assert metric.model_dump() == plain
    waiting = statuses[UNFINISHED]
    assert (waiting.state, waiting.step, waiting.total_steps, waiting.claims) == ("searching", 4, 9, 1)
    assert waiting.latest["epoch"] == 0


@pytest.mark.parametrize("run", FINISHED)
def test_a_run_of_schema_1_is_published_again_with_the_same_bytes(store: LocalStore, run: str) -> None:
    keys = RunKeys(EXPERIMENT, run)
    published = [keys.genotype, keys.alpha_trace, keys.metrics]
    before = {key: store.get(key).data for key in published}
    for key in published:
        store.delete(key)
    assert publish_run(store, EXPERIMENT, run) == published
    for key in published:
        seen, wanted = store.get(key).data, before[key]
        if (
            key.endswith(".parquet")
            and (reader := parquet(seen)).metadata.created_by != parquet(wanted).metadata.created_by
        ):
            # another release of pyarrow writes other bytes of the same table
            assert reader.schema_arrow.equals(parquet(wanted).schema_arrow, check_metadata=True)
            assert reader.read().equals(parquet(wanted).read())
        else:
            assert seen == wanted


def parquet(data: bytes) -> pq.ParquetFile:
    return pq.ParquetFile(pa.BufferReader(data))


def test_the_best_of_schema_1_is_made_again_with_the_same_bytes(store: LocalStore) -> None:
    key = ExperimentKeys(EXPERIMENT).best
    before = store.get(key).data
    store.delete(key)
    for run in FINISHED:
        publish_run(store, EXPERIMENT, run)
    assert store.get(key).data == before


def test_documents_of_schema_1_keep_their_bytes_when_they_are_written_again(store: LocalStore) -> None:
    key = ExperimentKeys(EXPERIMENT).description
    assert read_experiment(store, EXPERIMENT).to_bytes() == store.get(key).data
    for run in (*FINISHED, UNFINISHED):
        assert read_run(store, EXPERIMENT, run).to_bytes() == store.get(RunKeys(EXPERIMENT, run).description).data


def test_traces_of_schema_1_are_exported_and_read_as_a_dataset(store: LocalStore, tmp_path: Path) -> None:
    histories = {h.run: h.steps for h in export_traces(store, EXPERIMENT, None, tmp_path / "all.parquet")}
    assert histories == {FINISHED[0]: 9, FINISHED[1]: 9, UNFINISHED: 4}
    exported = pq.read_table(tmp_path / "all.parquet")
    whole = trace_dataset(store, EXPERIMENT).to_table()
    assert set(whole["run"].to_pylist()) == set(FINISHED)
    assert exported.num_rows == whole.num_rows * 22 // 18


def test_nothing_that_schema_1_refers_to_is_collected(store: LocalStore) -> None:
    assert collect_experiment(store, EXPERIMENT, 0.0).garbage == []


@pytest.mark.parametrize("run", [*FINISHED, UNFINISHED])
def test_a_log_of_schema_1_keeps_the_rules(store: LocalStore, run: str) -> None:
    assert list(broken_rules([entry.record for entry in read_log(store, RunKeys(EXPERIMENT, run))])) == []


def test_every_fact_of_schema_1_is_kept_in_the_upgraded_record() -> None:
    plain = raw_record(FINISHED[0], 4)
    record = Record.from_bytes(canonical_json(plain), "key")
    assert record.schema_version == 2
    assert record.term == plain["epoch"]
    assert record.task == "search"
    assert record.answer == {name: plain[name] for name in ("genotype", "genotype_step", "metric")}
    assert record.documents == ("genotype.json", "alpha_trace.parquet", "metrics.parquet")
    advance = raw_record(UNFINISHED, 1)
    upgraded = Record.from_bytes(canonical_json(advance), "key").model_dump(mode="json")
    assert upgraded["streams"] == {"alphas": advance["parts"]}
    renamed = {"schema_version", "epoch", "parts", "genotype", "genotype_step", "metric"}
    assert {n: v for n, v in advance.items() if n not in renamed}.items() <= upgraded.items()


def test_a_failure_and_a_displacing_claim_of_schema_1_are_read() -> None:
    claim = raw_record(UNFINISHED, 0)
    claim |= {"displaced": claim["owner"], "displaced_age_s": 1.5, "n": 1, "epoch": 7}
    assert Record.from_bytes(canonical_json(claim), "key").displaced_age_s == 1.5
    fail = {**claim, "kind": "fail", "failure": {"kind": "no_progress", "detail": "five", "facts": {"a": 1}}}
    record = Record.from_bytes(canonical_json(fail), "key")
    assert record.failure is not None
    assert (record.failure.kind, record.term, record.answer, record.documents) == ("no_progress", 7, None, ())


@pytest.mark.parametrize("name", ["surprise", "term", "streams", "task", "answer", "documents"])
def test_a_field_that_schema_1_does_not_have_is_refused(name: str) -> None:
    plain = {**raw_record(UNFINISHED, 1), name: {}}
    with pytest.raises(CorruptObject, match=name):
        Record.from_bytes(canonical_json(plain), "key")


@pytest.mark.parametrize("name", ["epoch", "nonce", "step"])
def test_a_record_of_schema_1_without_a_field_is_refused(name: str) -> None:
    plain = raw_record(UNFINISHED, 1)
    del plain[name]
    with pytest.raises(CorruptObject, match=name):
        Record.from_bytes(canonical_json(plain), "key")


@pytest.mark.parametrize("name", ["epoch", "parts", "genotype", "metric"])
def test_a_field_of_schema_1_is_refused_in_schema_2(name: str) -> None:
    record = Record.from_bytes(canonical_json(raw_record(UNFINISHED, 1)), "key")
    plain = {**json.loads(record.to_bytes()), name: None}
    with pytest.raises(CorruptObject, match=name):
        Record.from_bytes(canonical_json(plain), "key")


def test_a_schema_that_never_existed_is_refused() -> None:
    with pytest.raises(CorruptObject, match="schema version 0"):
        Record.from_bytes(canonical_json({**raw_record(UNFINISHED, 1), "schema_version": 0}), "key")
