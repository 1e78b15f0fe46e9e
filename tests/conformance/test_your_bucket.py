"""The protocol on a bucket of your own: `RAY_DARTS_TEST_STORE=s3://bucket/prefix pytest tests/conformance`.

Writes a tiny experiment and probes under a fresh prefix there and removes them where the credentials may. With
`RAY_DARTS_TEST_CREATE_ONLY=1` the credentials are those of cluster/iam/trainer.json, and what that policy must refuse
is tried too. Everything else of the store comes from the standard AWS settings.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from ray_darts.artifacts.best import read_best
from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.datasets import trace_dataset
from ray_darts.artifacts.doctor import probe_store
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.objects import ObjectStore, create
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.errors import StoreDenied, Superseded
from tests.artifacts.runs import EXPERIMENT, KEYS, LAYOUT, RUN, advance, claimed, finish, register, whole_run
from tests.artifacts.test_objects import together

URI = os.environ.get("RAY_DARTS_TEST_STORE", "")
CREATE_ONLY = bool(os.environ.get("RAY_DARTS_TEST_CREATE_ONLY"))

pytestmark = pytest.mark.skipif(not URI, reason="RAY_DARTS_TEST_STORE names no store")


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    """A fresh prefix of the user's store, emptied afterwards as far as the credentials may."""
    store = open_store(f"{URI.rstrip('/')}/conformance-{uuid4().hex[:12]}")
    yield store
    for entry in list(store.list_objects("")):
        with contextlib.suppress(StoreDenied):
            store.delete(entry.key)


def test_every_promise_that_a_run_needs_holds(store: ObjectStore) -> None:
    assert [f"{check.name}: {check.detail}" for check in probe_store(store) if check.needed and not check.ok] == []


def test_a_run_is_claimed_advanced_finished_published_and_verified(store: ObjectStore) -> None:
    register(store)
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    assert read_best(store, EXPERIMENT, verify=True).run == RUN
    assert verify_experiment(store, EXPERIMENT).problems == []
    assert trace_dataset(store, EXPERIMENT).count_rows() == 9 * LAYOUT.num_alphas


def test_a_newer_session_fences_an_older_one(store: ObjectStore) -> None:
    register(store)
    older = claimed(store, "older")
    advance(older, 2)
    newer = claimed(store, "newer")
    with pytest.raises(Superseded, match="session newer"):
        advance(older, 4)
    advance(newer, 4)
    finish(newer)
    assert [entry.record.term for entry in read_log(store, KEYS)] == [1, 1, 2, 2, 2]
    assert len(collect_experiment(store, EXPERIMENT, min_age_s=0.0).garbage) > 0


def test_of_eight_racing_writers_one_wins_each_time(store: ObjectStore) -> None:
    for n in range(10):
        won: list[int] = []

        def race(writer: int, n: int = n, won: list[int] = won) -> None:
            if create(store, KEYS.record(n), b"writer %d" % writer) is None:
                won.append(writer)

        together(8, race)
        assert len(won) == 1


@pytest.mark.skipif(not CREATE_ONLY, reason="RAY_DARTS_TEST_CREATE_ONLY is not set")
def test_the_trainers_policy_refuses_what_would_break_the_log(store: ObjectStore) -> None:
    register(store)
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    record = KEYS.record(0)
    part = read_log(store, KEYS)[1].record.parts[0].key
    for key in (record, part, KEYS.description, ExperimentKeys(EXPERIMENT).description):
        with pytest.raises(StoreDenied, match="s3:PutObject"):
            store.put(key, b"overwritten")
        with pytest.raises(StoreDenied, match="s3:DeleteObject"):
            store.delete(key)
    with pytest.raises(StoreDenied, match="s3:PutObject"):
        store.put(ExperimentKeys(EXPERIMENT).best, b"overwritten")
    assert verify_experiment(store, EXPERIMENT).problems == []
