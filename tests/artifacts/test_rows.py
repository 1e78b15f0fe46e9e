"""A checkpoint that cannot be read: the writer falls back to an older one, and no row is written twice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.log_rules import broken_rules
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.records import CheckpointRef
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.artifacts.writer import RunWriter
from ray_darts.errors import CorruptObject, MissingObject, StoreUnavailable, Superseded
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


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    register(store)
    return store


def remove(store: MemoryStore, ref: CheckpointRef) -> None:
    del store.objects[ref.tensors.key]


def overwrite(store: MemoryStore, ref: CheckpointRef) -> None:
    store.objects[ref.tensors.key] = b"damaged"


def again(writer: RunWriter, first: int, last: int, noise: float = 0.0) -> None:
    """Commit the steps `first`..`last` as a loop does that began after an older checkpoint."""
    steps = range(first, last + 1)
    alphas = np.array([alphas_after(s) for s in steps], np.float32).reshape(len(steps), LAYOUT.num_alphas) + noise
    ended = [epoch_metrics(epoch_of(s)) for s in steps if s % STEPS_PER_EPOCH == 0]
    epochs = np.array([epoch_of(s) for s in steps], np.int32)
    writer.advance(last, {"alphas": alphas.astype(np.float32)}, epochs, ended, checkpoint_after(last), total_steps=9)


def interrupted(store: MemoryStore, damage: Callable[[MemoryStore, CheckpointRef], None]) -> RunWriter:
    """A run whose checkpoint of step 5 is damaged and whose checkpoint of step 2 is whole."""
    writer = claimed(store, "a")
    advance(writer, 2)
    advance(writer, 5)
    assert writer.record.checkpoint is not None
    damage(store, writer.record.checkpoint)
    return claimed(store, "b")


@pytest.mark.parametrize("damage", [remove, overwrite])
@pytest.mark.parametrize("commits", [[(3, 9)], [(3, 5), (6, 9)], [(3, 4), (5, 7), (8, 9)], [(3, 3), (4, 4), (5, 9)]])
def test_after_a_fallback_the_run_ends_as_one_that_was_never_damaged(
    store: MemoryStore, damage: Callable[[MemoryStore, CheckpointRef], None], commits: list[tuple[int, int]]
) -> None:
    writer = interrupted(store, damage)
    checkpoint = writer.load_checkpoint()
    assert checkpoint is not None
    assert checkpoint.state == {"step": 2}
    assert writer.step == 5
    for first, last in commits:
        again(writer, first, last)
    finish(writer)
    publish_run(store, EXPERIMENT, RUN)
    assert list(broken_rules([entry.record for entry in read_log(store, KEYS)])) == []
    assert verify_experiment(store, EXPERIMENT).problems == []
    other = MemoryStore()
    register(other)
    whole_run(other)
    publish_run(other, EXPERIMENT, RUN)
    for key in (KEYS.alpha_trace, KEYS.metrics):
        assert store.objects[key] == other.objects[key]


def test_steps_that_are_durable_write_nothing_when_they_are_computed_again(store: MemoryStore) -> None:
    writer = interrupted(store, remove)
    writer.load_checkpoint()
    before = dict(store.objects)
    again(writer, 3, 4)
    assert store.objects == before
    again(writer, 5, 5)
    assert (writer.step, writer.record.streams) == (5, {})
    loaded = claimed(store, "c").load_checkpoint()
    assert loaded is not None
    assert loaded.state == {"step": 5}


def test_steps_that_come_out_different_are_refused_and_nothing_is_written(store: MemoryStore) -> None:
    writer = interrupted(store, remove)
    writer.load_checkpoint()
    before = dict(store.objects)
    with pytest.raises(CorruptObject, match=r"steps 3 to 5.*differ from the rows.*number of workers"):
        again(writer, 3, 7, noise=1e-6)
    assert store.objects == before


def test_an_outage_while_rows_are_compared_is_repeated(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = interrupted(store, remove)
    writer.load_checkpoint()
    with monkeypatch.context() as patch:
        patch.setattr(store, "get", _no_answer)
        with pytest.raises(StoreUnavailable):
            again(writer, 3, 6)
    again(writer, 3, 6)
    assert writer.step == 6


def _no_answer(key: str) -> None:
    raise StoreUnavailable("no answer", key=key)


def test_without_an_older_checkpoint_the_error_says_what_to_do(store: MemoryStore) -> None:
    writer = interrupted(store, remove)
    for key in [key for key in store.objects if key.startswith(KEYS.checkpoints)]:
        del store.objects[key]
    with pytest.raises(MissingObject, match=r"no older checkpoint can be read: restore it .*\(--name\)"):
        writer.load_checkpoint()


def test_a_fallback_goes_through_every_checkpoint_that_the_log_names(store: MemoryStore) -> None:
    writer = claimed(store, "a")
    advance(writer, 1)
    oldest = writer.record.checkpoint
    assert oldest is not None
    kept = {key: store.objects[key] for key in (oldest.tensors.key, oldest.state.key)}
    for step in range(2, 30):
        advance(writer, step)
    for key in [key for key in store.objects if key.startswith(KEYS.checkpoints)]:
        del store.objects[key]
    store.objects.update(kept)
    checkpoint = claimed(store, "b").load_checkpoint()
    assert checkpoint is not None
    assert checkpoint.state == {"step": 1}


def test_a_collection_leaves_an_unfinished_run_the_checkpoint_that_it_falls_back_to(store: MemoryStore) -> None:
    writer = claimed(store, "a")
    for step in (1, 2, 3):
        advance(writer, step)
    damaged = writer.record.checkpoint
    assert damaged is not None
    second = claimed(store, "b")
    assert second.step == 3
    collect_experiment(store, EXPERIMENT, 0.0, delete=True)
    remove(store, damaged)
    checkpoint = claimed(store, "c").load_checkpoint()
    assert checkpoint is not None
    assert checkpoint.state == {"step": 2}


def test_a_start_whose_checkpoint_a_newer_command_has_deleted_is_superseded(store: MemoryStore) -> None:
    advance(claimed(store, "a"), 1)
    displaced = claimed(store, "a")
    newer = claimed(store, "b")
    for step in range(2, 6):
        advance(newer, step)
    with pytest.raises(Superseded, match="session b"):
        displaced.load_checkpoint()


def test_a_start_whose_puts_are_collected_by_a_newer_one_is_superseded(store: MemoryStore) -> None:
    class Forgetful(MemoryStore):
        def get(self, key: str):  # type: ignore[no-untyped-def]
            self.objects.pop(lost, None)
            return super().get(key)

    lost = ""
    forgetful = Forgetful()
    register(forgetful)
    older = claimed(forgetful, "a")
    forgetful.schedule = ["lost"]
    with pytest.raises(StoreUnavailable):
        advance(older, 1)
    claimed(forgetful, "b")
    lost = next(key for key in forgetful.objects if key.startswith(KEYS.parts))
    with pytest.raises(Superseded, match="session b"):
        advance(older, 1)
