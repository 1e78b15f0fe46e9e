"""How many checkpoints a finished run keeps; what lets the last one go when it is killed, and what its weights need."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.compact import conclude_run
from ray_darts.artifacts.crash_points import RELEASE_CRASH_POINTS, set_crash_hook
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.log_rules import broken_rules
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.results import publish_results
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.superseded import Keeping
from ray_darts.artifacts.trained import read_trained
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.errors import MissingObject, StoreUnavailable
from tests.artifacts.memory_store import Killed, MemoryStore
from tests.artifacts.runs import EXPERIMENT, KEYS, RUN, advance, claimed, finish, register, whole_run
from tests.artifacts.trainings import claim_training, register_trainings, training_answer

TRAINING = RunKeys("trained", "cell-seed-0")


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    """One whole, published run."""
    store = MemoryStore()
    register(store)
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    yield store
    set_crash_hook(None)


def below(store: MemoryStore, prefix: str) -> list[str]:
    return [key for key in store.objects if key.startswith(prefix)]


@pytest.mark.parametrize("name", RELEASE_CRASH_POINTS)
def test_a_run_that_is_killed_while_it_lets_its_checkpoint_go_is_finished_by_gc(store: MemoryStore, name: str) -> None:
    def hook(seen: str) -> None:
        if seen == name:
            raise Killed

    set_crash_hook(hook)
    with pytest.raises(Killed):
        conclude_run(store, EXPERIMENT, RUN, 0)
    set_crash_hook(None)
    assert verify_experiment(store, EXPERIMENT).problems == []
    conclude_run(store, EXPERIMENT, RUN, 0)
    collect_experiment(store, EXPERIMENT, 0.0, delete=True)
    assert below(store, KEYS.checkpoints) == []
    assert verify_experiment(store, EXPERIMENT).problems == []
    assert sum(entry.record.released is not None for entry in read_log(store, KEYS)) == 1


def test_an_outage_of_the_record_is_repeated_and_written_once(store: MemoryStore) -> None:
    store.schedule = ["lost"]
    with pytest.raises(StoreUnavailable):
        conclude_run(store, EXPERIMENT, RUN, 0)
    conclude_run(store, EXPERIMENT, RUN, 0)
    collect_experiment(store, EXPERIMENT, 0.0, delete=True)
    assert below(store, KEYS.checkpoints) == []
    assert list(broken_rules([entry.record for entry in read_log(store, KEYS)])) == []


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_a_run_with_a_config_keeps_as_many_checkpoints_as_it_says(keep: int) -> None:
    store = MemoryStore()
    register(store)
    writer = claimed(store, keeping=Keeping(2, keep))
    for step in (3, 6, 9):
        advance(writer, step)
    finish(writer)
    assert conclude_run(store, EXPERIMENT, RUN, keep)
    steps = {KEYS.checkpoint_name(key).step for key in below(store, KEYS.checkpoints)}  # type: ignore[union-attr]
    assert steps == {0: set(), 1: {9}, 2: {6, 9}}[keep]
    assert verify_experiment(store, EXPERIMENT).problems == []
    collect_experiment(store, EXPERIMENT, 0.0, delete=True, keep_finished_checkpoints=2)
    assert {KEYS.checkpoint_name(key).step for key in below(store, KEYS.checkpoints)} == steps  # type: ignore[union-attr]


@pytest.fixture
def trained() -> MemoryStore:
    """A finished training that is not published yet."""
    store = MemoryStore()
    register_trainings(store, TRAINING.experiment)
    writer = claim_training(store, TRAINING.experiment, TRAINING.run, 0, 1)
    tensors = {"weights/stem": np.arange(4, dtype=np.float32)}
    writer.advance(3, {}, np.zeros(3, np.int32), [], Checkpoint(tensors, {"step": 3}), total_steps=3)
    writer.finish(training_answer(1, 0.9), ("result.json", "weights_last.safetensors"))
    return store


def test_a_training_lets_its_checkpoint_go_once_its_weights_are_published(trained: MemoryStore) -> None:
    conclude_run(trained, TRAINING.experiment, TRAINING.run, 0)
    assert below(trained, TRAINING.checkpoints) == []
    released = read_log(trained, TRAINING)[-1].record.released
    assert released is not None
    assert list(released.documents) == ["weights_last.safetensors"]
    assert verify_experiment(trained, TRAINING.experiment).problems == []
    before = publish_results(trained, TRAINING.experiment)
    found = read_trained(trained, TRAINING.experiment)
    np.testing.assert_array_equal(found.weights["stem"], np.arange(4, dtype=np.float32))
    finish_entry = read_log(trained, TRAINING)[-2]
    assert found.record_sha256 == finish_entry.digest == before.genotypes[0].runs[0].record_sha256
    del trained.objects[TRAINING.document("result.json")]
    assert verify_experiment(trained, TRAINING.experiment, repair=True).clean
    assert finish_entry.digest.encode() in trained.objects[TRAINING.document("result.json")]


def test_weights_that_are_missing_are_named_and_not_made_again(trained: MemoryStore) -> None:
    conclude_run(trained, TRAINING.experiment, TRAINING.run, 0)
    key = TRAINING.document("weights_last.safetensors")
    del trained.objects[key]
    (problem,) = verify_experiment(trained, TRAINING.experiment, repair=True).problems
    assert (problem.key, problem.repaired) == (key, False)
    for read in (
        lambda: read_trained(trained, TRAINING.experiment),
        lambda: publish_run(trained, TRAINING.experiment, TRAINING.run),
    ):
        with pytest.raises(MissingObject, match="nothing can make it again"):
            read()


def test_weights_that_differ_keep_their_checkpoint(trained: MemoryStore) -> None:
    publish_run(trained, TRAINING.experiment, TRAINING.run)
    trained.objects[TRAINING.document("weights_last.safetensors")] += b"?"
    found = collect_experiment(trained, TRAINING.experiment, 0.0, delete=True, keep_finished_checkpoints=0)
    assert "differs from what the log says" in found.problems[TRAINING.run]
    assert len(below(trained, TRAINING.checkpoints)) == 2
