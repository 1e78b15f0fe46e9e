"""Puts that land while their answers are lost, on a real server behind a relay, for every kind of object."""

from __future__ import annotations

import pytest

from ray_darts.artifacts.best import read_best
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.errors import StoreUnavailable
from tests.artifacts.buckets import fresh_uri, settings
from tests.artifacts.relay import Relay
from tests.artifacts.runs import EXPERIMENT, KEYS, RUN, advance, claimed, finish, register, whole_run

Wired = tuple[Relay, str]


def through(relay: Wired, attempts: int = 3) -> ObjectStore:
    """A store whose requests pass the relay, with the run's descriptions in it."""
    store = open_store(fresh_uri(), settings(relay[1], attempts=attempts))
    register(store)
    return store


RECORDS = {
    "claim": "/log/000000000000.json",
    "part": "/parts/",
    "tensors": "/tensors.safetensors",
    "state": "/state.json",
    "advance": "/log/000000000001.json",
    "finish": "/log/000000000003.json",
    "head": "/head.json",
    "genotype": "/genotype.json",
    "trace": "/alpha_trace.parquet",
    "metrics": "/metrics.parquet",
    "best": "/best.json",
}


@pytest.mark.parametrize("fragment", RECORDS.values(), ids=RECORDS.keys())
def test_a_lost_reply_that_is_tried_again_changes_nothing(aws: None, relay: Wired, fragment: str) -> None:
    store = through(relay)
    relay[0].lose_once("PUT", fragment)
    whole_run(store, steps=3)
    publish_run(store, EXPERIMENT, RUN)
    assert len(relay[0].lost) == 1
    log = [entry.record for entry in read_log(store, KEYS)]
    assert [record.kind for record in log] == ["claim", "advance", "advance", "finish"]
    assert {record.term for record in log} == {1}
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_a_lost_reply_to_a_failure_is_one_failure(aws: None, relay: Wired) -> None:
    store = through(relay)
    writer = claimed(store)
    relay[0].lose_once("PUT", "/log/000000000001.json")
    writer.fail("non_finite", "NaN at step 1")
    assert len(relay[0].lost) == 1
    assert [entry.record.kind for entry in read_log(store, KEYS)] == ["claim", "fail"]


@pytest.mark.parametrize("fragment", ["/parts/", "/tensors.safetensors", "/state.json", "/log/000000000001.json"])
def test_a_commit_whose_replies_are_all_lost_is_repeated_by_its_caller(aws: None, relay: Wired, fragment: str) -> None:
    store = through(relay, attempts=1)
    writer = claimed(store)
    relay[0].lose_once("PUT", fragment)
    with pytest.raises(StoreUnavailable):
        advance(writer, 2)
    advance(writer, 2)
    finish(writer)
    publish_run(store, EXPERIMENT, RUN)
    assert [entry.record.kind for entry in read_log(store, KEYS)] == ["claim", "advance", "finish"]
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_a_lost_swap_of_the_best_is_ours_when_looked_at_again(aws: None, relay: Wired) -> None:
    store = through(relay)
    register(store, ("first-order-seed-0", 0), ("first-order-seed-1", 1))
    for run, value in (("first-order-seed-0", 0.4), ("first-order-seed-1", 0.6)):
        whole_run(store, run=run, steps=2, value=value)
        relay[0].lose_once("PUT", "/best.json")
        publish_run(store, EXPERIMENT, run)
    assert len(relay[0].lost) == 2
    assert read_best(store, EXPERIMENT, verify=True).run == "first-order-seed-1"


def test_another_writers_record_is_not_taken_for_a_lost_reply(aws: None, relay: Wired) -> None:
    store = through(relay, attempts=1)
    writer = claimed(store, "a")
    relay[0].lose_once("PUT", "/log/000000000001.json")
    with pytest.raises(StoreUnavailable):
        claimed(store, "b")
    with pytest.raises(Exception, match="session b"):
        advance(writer, 2)
