"""Publications: functions of the log alone, nothing before finish, made again when missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from ray_darts.artifacts.answer import SEARCH_DOCUMENTS
from ray_darts.artifacts.architecture import architecture_of
from ray_darts.artifacts.best import read_best
from ray_darts.artifacts.experiment import read_run
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.parts import Rows
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.trace_schema import TRACE_SCHEMA
from ray_darts.artifacts.traces import read_rows, trace_bytes
from ray_darts.errors import CorruptObject, StoreError
from ray_darts.genotype.decode import softmax
from ray_darts.genotype.genotype import Genotype
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import (
    EXPERIMENT,
    KEYS,
    LAYOUT,
    PUBLISHED,
    RUN,
    advance,
    alphas_after,
    answer,
    claimed,
    epoch_of,
    genotype_after,
    register,
    whole_run,
)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    store = open_store(str(tmp_path))
    register(store)
    return store


@pytest.fixture
def trace(store: ObjectStore, tmp_path: Path) -> pa.Table:
    """The published trace as any Parquet tool reads it."""
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    return pq.read_table(tmp_path / KEYS.alpha_trace)


def test_the_trace_has_every_alpha_after_every_step_once(trace: pa.Table) -> None:
    rows = trace.to_pylist()
    assert len(rows) == 9 * LAYOUT.num_alphas
    seen = {(r["step"], r["cell"], r["source"], r["target"], r["operation"]): r for r in rows}
    assert len(seen) == len(rows)
    for step in range(1, 10):
        alphas = LAYOUT.rows(LAYOUT.alphas, alphas_after(step).tolist())
        for cell in LAYOUT.cells:
            for number, (source, target) in enumerate(cell.edges):
                weights = softmax(alphas[cell.name][number])
                for operation, alpha, weight in zip(cell.operations, alphas[cell.name][number], weights, strict=True):
                    row = seen[step, cell.name, source, target, operation]
                    assert row["alpha"] == np.float32(alpha)
                    assert row["probability"] == pytest.approx(weight, rel=1e-6)
                    assert (row["edge"], row["epoch"]) == (number, epoch_of(step))
                    assert (row["run"], row["order"], row["seed"]) == (RUN, "second", 3)


def test_the_trace_has_the_documented_schema_in_a_plain_tool(trace: pa.Table) -> None:
    assert trace.schema.equals(TRACE_SCHEMA)
    assert trace.schema.metadata == {b"schema_version": b"1"}


def test_the_last_rows_of_the_trace_decode_to_the_published_genotype(trace: pa.Table, tmp_path: Path) -> None:
    last = [row["alpha"] for row in trace.to_pylist() if row["step"] == 9]
    assert last == alphas_after(9).tolist()
    assert Genotype.from_json((tmp_path / KEYS.genotype).read_text(), LAYOUT) == genotype_after(9)


def test_metrics_have_one_row_per_epoch(store: ObjectStore, tmp_path: Path) -> None:
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    table = pq.read_table(tmp_path / KEYS.metrics)
    rows = table.to_pylist()
    assert [(row["run"], row["epoch"], row["step"], row["train_loss"]) for row in rows] == [
        (RUN, 0, 3, 1.0),
        (RUN, 1, 6, 0.5),
        (RUN, 2, 9, pytest.approx(1 / 3)),
    ]
    cell = {"entropy": 2.0, "skips": 1, "parameter_free": 1, "margins": [0.1, 0.2]}
    assert rows[0]["cells"] == [{"cell": name, **cell} for name in ("normal", "reduction")]
    assert all(table.schema.field(name).metadata for name in ("train_loss", "steps_per_s", "validation_accuracy"))


def test_many_traces_are_one_plain_dataset(store: ObjectStore, tmp_path: Path) -> None:
    runs = [(f"second-order-seed-{seed}", seed) for seed in range(3)]
    register(store, *runs)
    for run, _ in runs:
        whole_run(store, run=run)
        publish_run(store, EXPERIMENT, run)
    files = sorted(str(path) for path in tmp_path.glob("*/runs/*/alpha_trace.parquet"))
    table = ds.dataset(files).to_table(filter=(ds.field("step") == 9) & (ds.field("seed") > 0))
    assert table.num_rows == 2 * LAYOUT.num_alphas
    assert set(table["run"].to_pylist()) == {run for run, _ in runs[1:]}


def test_the_traces_bytes_do_not_depend_on_how_steps_were_committed(store: ObjectStore) -> None:
    rows = Rows(
        np.arange(1, 9001, dtype=np.int32),
        np.zeros(9000, np.int32),
        np.random.default_rng(0).standard_normal((9000, LAYOUT.num_alphas)).astype(np.float32),
    )
    run = read_run(store, EXPERIMENT, RUN)
    architecture = architecture_of(LAYOUT, run)
    whole = trace_bytes(architecture, run, [rows])
    assert trace_bytes(architecture, run, [rows.cut(0, 7), rows.cut(7, 2800), rows.cut(2800, 9000)]) == whole
    assert pq.ParquetFile(pa.BufferReader(whole)).num_row_groups > 1


def test_nothing_is_published_before_finish(store: ObjectStore) -> None:
    with pytest.raises(StoreError, match="has not finished"):
        publish_run(store, EXPERIMENT, RUN)
    advance(claimed(store), 4)
    with pytest.raises(StoreError, match="has not finished"):
        publish_run(store, EXPERIMENT, RUN)
    assert not any(store.exists(key) for key in (*PUBLISHED, ExperimentKeys(EXPERIMENT).best))


def test_what_is_missing_is_published_again_and_the_rest_left_alone(store: ObjectStore) -> None:
    whole_run(store)
    everything = [*PUBLISHED, ExperimentKeys(EXPERIMENT).best]
    assert publish_run(store, EXPERIMENT, RUN) == everything
    bytes_before = {key: store.get(key).data for key in everything}
    assert publish_run(store, EXPERIMENT, RUN) == []
    for key in everything:
        store.delete(key)
        assert publish_run(store, EXPERIMENT, RUN) == [key]
        assert store.get(key).data == bytes_before[key]


def test_publishing_again_when_all_is_there_reads_no_part() -> None:
    store = MemoryStore()
    register(store)
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    store.log.clear()
    publish_run(store, EXPERIMENT, RUN)
    assert len(store.log) == 8
    assert not any("/parts/" in request or request.startswith(("PUT", "LIST")) for request in store.log)


def test_an_earlier_step_may_be_the_answer(store: ObjectStore) -> None:
    writer = claimed(store)
    advance(writer, 2)
    advance(writer, 5)
    writer.finish(answer(4), SEARCH_DOCUMENTS)
    publish_run(store, EXPERIMENT, RUN)
    best = read_best(store, EXPERIMENT)
    assert (best.genotype_step, best.step) == (4, 5)
    assert best.architecture() == genotype_after(4)


def test_a_genotype_that_the_trace_does_not_decode_to_is_not_published(store: ObjectStore) -> None:
    writer = claimed(store)
    advance(writer, 2)
    assert genotype_after(1) != genotype_after(2)
    writer.finish({**answer(1), "genotype_step": 2}, SEARCH_DOCUMENTS)
    with pytest.raises(CorruptObject, match="another genotype"):
        publish_run(store, EXPERIMENT, RUN)
    assert not store.exists(KEYS.genotype)
    assert not store.exists(ExperimentKeys(EXPERIMENT).best)


def test_a_run_of_many_small_commits_has_the_trace_of_a_run_of_few(store: ObjectStore) -> None:
    runs = ("second-order-seed-3", "second-order-seed-4")
    register(store, *((run, 3) for run in runs))
    one_by_one, at_once = (claimed(store, run=run) for run in runs)
    for step in range(1, 21):
        advance(one_by_one, step)
    advance(at_once, 20)
    rows = []
    for run in runs:
        keys = RunKeys(EXPERIMENT, run)
        rows.append(
            np.concatenate([r.values for r in read_rows(store, keys, read_log(store, keys), LAYOUT.num_alphas)])
        )
    np.testing.assert_array_equal(rows[0], rows[1], strict=True)
