"""`status.json`: what it says, several writers at once, and how verify and gc keep it true."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.status import run_status
from ray_darts.artifacts.status_index import read_index, try_update_index, update_index
from ray_darts.artifacts.statuses import experiment_status
from ray_darts.artifacts.verify import verify_experiment
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import EXPERIMENT, RUN, advance, claimed, register, whole_run

INDEX = ExperimentKeys(EXPERIMENT).status
OTHER, IDLE = "second-order-seed-4", "second-order-seed-5"
Plain = dict[str, dict[str, dict[str, object]]]


@pytest.fixture
def store() -> MemoryStore:
    """One run has finished, one goes on, one waits."""
    store = MemoryStore()
    register(store, (RUN, 3), (OTHER, 4), (IDLE, 5))
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    advance(claimed(store, run=OTHER), 4)
    return store


def write(store: MemoryStore) -> bool:
    return update_index(store, EXPERIMENT, experiment_status(store, EXPERIMENT))


def plain(store: MemoryStore) -> Plain:
    index: Plain = json.loads(store.objects[INDEX])
    return index


def test_the_index_has_every_started_run_and_each_environment_once(store: MemoryStore) -> None:
    assert write(store)
    assert set(plain(store)["runs"]) == {RUN, OTHER}
    assert len(plain(store)["environments"]) == 1
    for run, status in read_index(store, EXPERIMENT).statuses.items():
        wanted = run_status(store, EXPERIMENT, run)
        assert replace(status, age_s=None) == replace(wanted, age_s=None)


def test_nothing_new_is_not_written(store: MemoryStore) -> None:
    assert write(store)
    before = store.objects[INDEX]
    assert not write(store)
    assert store.objects[INDEX] is before
    advance(claimed(store, run=OTHER), 6)
    assert write(store)
    assert plain(store)["runs"][OTHER]["step"] == 6


def test_an_index_without_runs_says_that_none_had_started() -> None:
    store = MemoryStore()
    register(store)
    assert write(store)
    store.log.clear()
    assert [status.state for status in experiment_status(store, EXPERIMENT)] == ["waiting"]
    assert len(store.log) == 3


def test_an_older_status_does_not_replace_a_newer_one(store: MemoryStore) -> None:
    old = experiment_status(store, EXPERIMENT)
    advance(claimed(store, run=OTHER), 6)
    write(store)
    assert not update_index(store, EXPERIMENT, old)
    assert plain(store)["runs"][OTHER]["step"] == 6


@pytest.mark.parametrize("is_there", [False, True])
def test_of_two_drivers_at_once_none_loses_what_the_other_wrote(store: MemoryStore, is_there: bool) -> None:
    statuses = {status.run: status for status in experiment_status(store, EXPERIMENT)}
    if is_there:
        update_index(store, EXPERIMENT, [])

    def overtake() -> None:
        update_index(store, EXPERIMENT, [statuses[OTHER]])

    store.overtake = overtake
    store.schedule = ["overtaken"]
    assert update_index(store, EXPERIMENT, [statuses[RUN]])
    assert store.schedule == []
    assert set(plain(store)["runs"]) == {RUN, OTHER}


@pytest.mark.parametrize("is_there", [False, True])
def test_an_answer_that_was_lost_costs_nothing(store: MemoryStore, is_there: bool) -> None:
    if is_there:
        update_index(store, EXPERIMENT, [])
    store.schedule = ["retried"]
    write(store)
    assert set(plain(store)["runs"]) == {RUN, OTHER}


def test_a_store_that_refuses_the_index_is_no_error(store: MemoryStore) -> None:
    store.schedule = ["refused"]
    try_update_index(store, EXPERIMENT, experiment_status(store, EXPERIMENT))
    assert INDEX not in store.objects


def test_verify_finds_nothing_wrong_with_an_absent_or_old_index(store: MemoryStore) -> None:
    assert verify_experiment(store, EXPERIMENT).problems == []
    assert INDEX not in store.objects, "without --repair nothing is written"
    write(store)
    advance(claimed(store, run=OTHER), 6)
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_a_repair_writes_an_absent_or_old_index(store: MemoryStore) -> None:
    for step in (6, 8):
        assert verify_experiment(store, EXPERIMENT, repair=True).problems == []
        assert not write(store), "all of it was known"
        advance(claimed(store, run=OTHER), step)


def _set(run: str, field: str, value: object) -> Callable[[MemoryStore], None]:
    def damage(store: MemoryStore) -> None:
        index = plain(store)
        index["runs"].setdefault(run, {**index["runs"][RUN], "run": run})[field] = value
        store.objects[INDEX] = json.dumps(index).encode()

    return damage


def _cut(store: MemoryStore) -> None:
    store.objects[INDEX] = store.objects[INDEX][:-9]


@pytest.mark.parametrize(
    ("damage", "detail"),
    [
        (_set(RUN, "step", 10), f"says of {RUN} what record 6 of its log does not"),
        (_set(RUN, "record_sha256", "0" * 64), f"says of {RUN} what record 6"),
        (_set(OTHER, "state", "finished"), f"says of {OTHER} what record 1"),
        (_set(OTHER, "record", 9), f"says of {OTHER} what record 9"),
        (_set(IDLE, "step", 9), f"says of {IDLE} what record 6"),
        (_set("second-order-seed-9", "step", 9), "names second-order-seed-9, which has no log"),
        (_cut, "is no JSON document"),
        (_set(RUN, "run", OTHER), f"has no status of '{RUN}': another run, or no record"),
        (_set(RUN, "record", None), f"has no status of '{RUN}': another run, or no record"),
        (_set(RUN, "mood", "good"), f"has no status of '{RUN}': other fields than age_s, "),
    ],
)
def test_an_index_that_contradicts_a_log_is_found_and_repaired(
    store: MemoryStore, damage: Callable[[MemoryStore], None], detail: str
) -> None:
    write(store)
    whole = plain(store)
    damage(store)
    (problem,) = verify_experiment(store, EXPERIMENT).problems
    assert (problem.run, problem.key, problem.repaired) == (None, INDEX, False)
    assert detail in problem.detail
    (problem,) = verify_experiment(store, EXPERIMENT, repair=True).problems
    assert problem.repaired
    assert plain(store) == whole
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_gc_writes_the_index_when_it_deletes(store: MemoryStore) -> None:
    collect_experiment(store, EXPERIMENT)
    assert INDEX not in store.objects
    collect_experiment(store, EXPERIMENT, delete=True)
    assert not write(store)
