"""A task other than a search: its streams, its answer, and who may claim its runs."""

from __future__ import annotations

import numpy as np
import pytest

from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.export import export_traces
from ray_darts.artifacts.log_rules import broken_rules
from ray_darts.artifacts.parts import decode_part
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.status import run_status
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.artifacts.writer import claim_run
from ray_darts.errors import ConfigError
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import (
    DIGEST,
    ENVIRONMENT,
    EXPERIMENT,
    KEYS,
    RUN,
    checkpoint_after,
    claimed,
    owner,
    register,
    whole_run,
)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_a_task_has_streams_of_its_own_and_an_answer_of_its_own(store: MemoryStore) -> None:
    register(store)
    writer = claim_run(store, EXPERIMENT, RUN, owner("a"), DIGEST, ENVIRONMENT, task="training")
    gates, losses = np.ones((2, 3), np.float32), np.zeros((2, 1), np.float32)
    writer.advance(2, {"gates": gates, "losses": losses}, np.zeros(2, np.int32), [], checkpoint_after(2))
    writer.finish({"metric": 0.5}, ("metrics.parquet",))
    assert run_status(store, EXPERIMENT, RUN).metric is None, "of a search alone"
    assert export_traces(store, EXPERIMENT, RUN, None) == []
    (gates_ref,) = read_log(store, KEYS)[1].record.streams["gates"]
    part = decode_part(store.objects[gates_ref.key], gates_ref.key, 3, 1, 2, "gates")
    np.testing.assert_array_equal(part.values, gates)
    assert publish_run(store, EXPERIMENT, RUN) == [KEYS.metrics]
    assert verify_experiment(store, EXPERIMENT).problems == []
    assert collect_experiment(store, EXPERIMENT, 0.0).garbage == []
    store.objects[gates_ref.key] += b"?"
    assert [problem.key for problem in verify_experiment(store, EXPERIMENT).problems] == [gates_ref.key]


def test_another_task_does_not_claim(store: MemoryStore) -> None:
    claimed(store)
    with pytest.raises(ConfigError, match="'search', not 'training'"):
        claim_run(store, EXPERIMENT, RUN, owner("b"), DIGEST, ENVIRONMENT, task="training")


def test_a_stream_that_lacks_rows_breaks_a_rule(store: MemoryStore) -> None:
    whole_run(store)
    log = [entry.record for entry in read_log(store, KEYS)]
    assert list(broken_rules(log)) == []
    log[2] = log[2].model_copy(update={"streams": {}})
    assert any("rows of alphas end at" in rule for rule in broken_rules(log))
