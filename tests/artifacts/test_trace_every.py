"""A trace that keeps each k-th step: the same answer, and the same rows however the run was divided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.export import export_traces
from ray_darts.artifacts.log_rules import broken_rules, kept_steps
from ray_darts.artifacts.objects import sha256
from ray_darts.artifacts.parts import Rows, encode_part
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.records import Record
from ray_darts.artifacts.run_log import find_tip, read_log
from ray_darts.artifacts.superseded import Keeping
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.errors import CorruptObject
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import (
    EXPERIMENT,
    KEYS,
    LAYOUT,
    RUN,
    STEPS_PER_EPOCH,
    advance,
    alphas_after,
    checkpoint_after,
    claimed,
    epoch_metrics,
    epoch_of,
    finish,
    register,
    whole_run,
)

STEPS = 9


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    register(store)
    return store


def searched(store: MemoryStore, every: int, commits: Sequence[int] = (2, 4, 5, 6, 7, 9)) -> MemoryStore:
    """A run that keeps each `every`-th step, killed and claimed again after each commit."""
    for session, step in enumerate(commits):
        advance(claimed(store, str(session), keeping=Keeping(trace_every_steps=every)), step)
    finish(claimed(store, "last", keeping=Keeping(trace_every_steps=every)))
    publish_run(store, EXPERIMENT, RUN)
    return store


def wanted(every: int) -> list[int]:
    """Each k-th step, and the last of each epoch; the last of the run is one of these."""
    return [step for step in range(1, STEPS + 1) if step % every == 0 or step % STEPS_PER_EPOCH == 0]


def trace(store: MemoryStore) -> pa.Table:
    return pq.read_table(pa.BufferReader(store.objects[KEYS.alpha_trace]))


@pytest.mark.parametrize("every", [1, 2, 4, 100])
@pytest.mark.parametrize("commits", [(9,), (2, 4, 5, 6, 7, 9), (1, 2, 3, 4, 5, 6, 7, 8, 9)])
def test_the_kept_rows_depend_on_k_alone_and_the_answer_on_nothing(
    store: MemoryStore, every: int, commits: Sequence[int]
) -> None:
    searched(store, every, commits)
    table = trace(store)
    steps = table["step"].to_numpy().reshape(-1, LAYOUT.num_alphas)
    assert steps[:, 0].tolist() == wanted(every)
    for step, values in zip(wanted(every), table["alpha"].to_numpy().reshape(steps.shape), strict=True):
        assert values.tobytes() == alphas_after(step).tobytes()
    assert table["epoch"].to_numpy()[:: LAYOUT.num_alphas].tolist() == [epoch_of(step) for step in wanted(every)]
    dense = MemoryStore()
    register(dense)
    whole_run(dense)
    publish_run(dense, EXPERIMENT, RUN)
    for key in (KEYS.genotype, KEYS.metrics):
        assert store.objects[key] == dense.objects[key]
    assert list(broken_rules([entry.record for entry in read_log(store, KEYS)])) == []
    assert verify_experiment(store, EXPERIMENT).problems == []
    (history,) = export_traces(store, EXPERIMENT, RUN, None)
    assert (history.steps, history.rows) == (STEPS, len(table))


def test_k_may_change_between_commands(store: MemoryStore) -> None:
    advance(claimed(store, "a"), 2)
    advance(claimed(store, "b", keeping=Keeping(trace_every_steps=4)), 8)
    advance(claimed(store, "c", keeping=Keeping(trace_every_steps=1)), 9)
    writer = claimed(store, "d", keeping=Keeping(trace_every_steps=4))
    finish(writer)
    publish_run(store, EXPERIMENT, RUN)
    assert sorted(set(trace(store)["step"].to_pylist())) == [1, 2, 3, 4, 6, 8, 9]
    assert verify_experiment(store, EXPERIMENT).problems == []
    log = [entry.record for entry in read_log(store, KEYS)]
    assert [(record.trace_every_steps, record.schema_version) for record in log if record.streams] == [
        (1, 2),
        (4, 3),
        (1, 2),
    ]
    assert all(record.schema_version == 2 for record in log if not record.streams)


def test_the_last_step_is_kept_where_no_epoch_ends(store: MemoryStore) -> None:
    writer = claimed(store, "a", keeping=Keeping(trace_every_steps=100))
    alphas = np.array([alphas_after(step) for step in range(1, 6)])
    writer.advance(5, {"alphas": alphas}, np.zeros(5, np.int32), [], checkpoint_after(5), total_steps=5)
    finish(writer)
    publish_run(store, EXPERIMENT, RUN)
    assert sorted(set(trace(store)["step"].to_pylist())) == [5]
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_a_part_without_a_row_of_its_own_is_whole(store: MemoryStore) -> None:
    advance(claimed(store, "a", keeping=Keeping(trace_every_steps=100)), 2)
    (part,) = read_log(store, KEYS)[1].record.streams["alphas"]
    assert kept_steps(read_log(store, KEYS)[1].record, part) == []
    assert verify_experiment(store, EXPERIMENT).problems == []
    assert export_traces(store, EXPERIMENT, RUN, None) == []


@pytest.mark.parametrize("every", [2, 100])
def test_steps_computed_again_after_a_fallback_are_compared_where_they_are_kept(store: MemoryStore, every: int) -> None:
    keeping = Keeping(trace_every_steps=every)
    writer = claimed(store, "a", keeping=keeping)
    advance(writer, 3)
    advance(writer, 7)
    checkpoint = writer.record.checkpoint
    assert checkpoint is not None
    del store.objects[checkpoint.tensors.key]
    writer = claimed(store, "b", keeping=keeping)
    writer.load_checkpoint()
    before = dict(store.objects)

    def again(noise: float) -> None:
        alphas = np.array([alphas_after(step) for step in range(4, 10)], np.float32)
        alphas[2] += noise  # step 6
        epochs = np.array([epoch_of(step) for step in range(4, 10)], np.int32)
        ended = [epoch_metrics(epoch) for epoch in (1, 2)]
        writer.advance(9, {"alphas": alphas}, epochs, ended, checkpoint_after(9), total_steps=9)

    with pytest.raises(CorruptObject, match="differ from the rows"):
        again(1e-3)
    assert store.objects == before
    writer = claimed(store, "c", keeping=keeping)
    writer.load_checkpoint()
    again(0.0)
    finish(writer)
    publish_run(store, EXPERIMENT, RUN)
    assert sorted(set(trace(store)["step"].to_pylist())) == wanted(every)
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_a_run_that_kept_some_steps_is_compacted(store: MemoryStore) -> None:
    searched(store, 4)
    collect_experiment(store, EXPERIMENT, 0.0, delete=True, compact=True, keep_finished_checkpoints=0)
    assert not [key for key in store.objects if key.startswith((KEYS.parts, KEYS.checkpoints))]
    assert verify_experiment(store, EXPERIMENT).problems == []


@pytest.mark.parametrize("steps", [[4], [3, 4, 6], [4, 5, 6], [4, 6, 6]])
def test_verify_finds_a_part_with_other_steps_than_its_record_says(store: MemoryStore, steps: list[int]) -> None:
    advance(claimed(store, "a"), 3)
    advance(claimed(store, "b", keeping=Keeping(trace_every_steps=2)), 6)
    tip = find_tip(store, KEYS)
    assert tip is not None
    (part,) = tip.record.streams["alphas"]
    assert kept_steps(tip.record, part) == [4, 6]
    rows = Rows(
        np.array(steps, np.int32),
        np.array([epoch_of(step) for step in steps], np.int32),
        np.array([alphas_after(step) for step in steps]),
    )
    data = encode_part(rows)
    store.objects[part.key] = data
    changed = part.model_copy(update={"sha256": sha256(data), "num_bytes": len(data)})
    record = tip.record.model_copy(update={"streams": {"alphas": (changed,)}})
    store.objects[KEYS.record(record.n)] = record.to_bytes()
    (problem,) = verify_experiment(store, EXPERIMENT).problems
    assert "does not hold those 2 kept of the steps 4 to 6" in problem.detail


def test_a_record_of_schema_2_keeps_every_step(store: MemoryStore) -> None:
    advance(claimed(store, "a", keeping=Keeping(trace_every_steps=2)), 3)
    key = KEYS.record(1)
    with pytest.raises(CorruptObject, match="no fields of schema 2"):
        Record.from_bytes(store.objects[key].replace(b'"schema_version":3', b'"schema_version":2'), key)
