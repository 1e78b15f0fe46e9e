"""A search that its budget has stopped offers the genotype of its last sound epoch, until a run finishes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ray_darts.artifacts.best import Best, read_best
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.unfinished import offer_unfinished
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.artifacts.writer import RunWriter
from ray_darts.errors import CorruptObject
from ray_darts.tasks.metrics import EpochMetrics
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import (
    EXPERIMENT,
    LAYOUT,
    RUN,
    STEPS_PER_EPOCH,
    advance,
    alphas_after,
    checkpoint_after,
    claimed,
    epoch_metrics,
    finish,
    genotype_after,
    register,
)

LAST = 2 * STEPS_PER_EPOCH


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    register(made)
    return made


def epoch(number: int, accuracy: float | None, warning: str | None = None) -> EpochMetrics:
    metrics = epoch_metrics(number)
    quality = {**metrics.quality, "validation_accuracy": accuracy}
    genotype = genotype_after(metrics.step).to_json()
    return metrics.model_copy(update={"quality": quality, "genotype": genotype, "warning": warning})


def search(store: MemoryStore, *ended: EpochMetrics) -> RunWriter:
    """A search of some epochs that is stopped in the middle of the next one."""
    writer = claimed(store)
    for metrics in ended:
        commit(writer, metrics.step, [metrics])
    commit(writer, writer.step + 1, [])
    return writer


def commit(writer: RunWriter, step: int, ended: Sequence[EpochMetrics]) -> None:
    steps = range(writer.step + 1, step + 1)
    rows = np.array([alphas_after(each) for each in steps], np.float32).reshape(-1, LAYOUT.num_alphas)
    epochs = np.array([(each - 1) // STEPS_PER_EPOCH for each in steps], np.int32)
    writer.advance(step, {"alphas": rows}, epochs, ended, checkpoint_after(step), total_steps=9)


def offer(store: MemoryStore) -> Best | None:
    return offer_unfinished(store, EXPERIMENT, RUN, "accuracy", "max")


def test_the_last_epoch_is_offered_and_marked_and_verified(store: MemoryStore) -> None:
    search(store, epoch(0, 0.9), epoch(1, 0.4))
    assert offer(store) == read_best(store, EXPERIMENT, verify=True)
    best = read_best(store, EXPERIMENT)
    assert (best.metric.value, best.metric.ranking, best.genotype_step) == (0.4, "unfinished", LAST)
    assert best.architecture() == genotype_after(LAST)
    assert not verify_experiment(store, EXPERIMENT).problems


def test_an_epoch_that_the_watch_warned_of_is_offered_only_where_no_other_is_there(store: MemoryStore) -> None:
    search(store, epoch(0, 0.9), epoch(1, 0.95, "collapse"))
    best = offer(store)
    assert best is not None
    assert (best.metric.value, best.warning) == (0.9, None)
    other = MemoryStore()
    register(other)
    search(other, epoch(0, 0.9, "collapse"))
    warned = offer(other)
    assert warned is not None
    assert warned.warning == "collapse"
    read_best(other, EXPERIMENT, verify=True)


def test_a_run_without_an_epoch_offers_nothing(store: MemoryStore) -> None:
    search(store)
    assert offer(store) is None


def test_every_finished_run_is_better(store: MemoryStore) -> None:
    writer = search(store, epoch(0, 0.9))
    offer(store)
    advance(writer, 9)
    finish(writer, 0.1)
    publish_run(store, EXPERIMENT, RUN)
    best = read_best(store, EXPERIMENT, verify=True)
    assert (best.metric.value, best.metric.ranking) == (0.1, "interim")
    offer(store)
    assert read_best(store, EXPERIMENT) == best


@pytest.mark.parametrize(
    "changed",
    [
        {"genotype_step": 1},
        {"genotype": genotype_after(1).to_data()},
        {"warning": "collapse"},
        {"seed": 7},
    ],
)
def test_a_forged_offer_is_found(store: MemoryStore, changed: dict[str, object]) -> None:
    search(store, epoch(0, 0.9), epoch(1, 0.4))
    best = offer(store)
    assert best is not None
    store.put(ExperimentKeys(EXPERIMENT).best, best.model_copy(update=changed).to_bytes())
    with pytest.raises(CorruptObject):
        read_best(store, EXPERIMENT, verify=True)
    assert verify_experiment(store, EXPERIMENT).problems
