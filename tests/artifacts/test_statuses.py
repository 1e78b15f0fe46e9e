"""How many requests a status costs, and that an index which is absent, old or damaged never makes it wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_darts.artifacts.keys import ExperimentKeys, RunKeys
from ray_darts.artifacts.run_log import find_newer, find_tip
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.artifacts.status_index import update_index
from ray_darts.artifacts.statuses import RunStatuses, experiment_status
from ray_darts.artifacts.writer import RunWriter
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import EXPERIMENT, advance, claimed, finish, register, whole_run

INDEX = ExperimentKeys(EXPERIMENT).status
FINISHED, FAILED, RUNNING, WAITING = (
    [f"{state}-seed-{seed}" for seed in range(number)]
    for state, number in (("finished", 6), ("failed", 3), ("running", 4), ("waiting", 5))
)
RUNS = sorted([*FINISHED, *FAILED, *RUNNING, *WAITING])


@pytest.fixture
def writers() -> dict[str, RunWriter]:
    """Of the running runs."""
    return {}


@pytest.fixture
def store(writers: dict[str, RunWriter]) -> MemoryStore:
    store = MemoryStore()
    register(store, *((run, seed) for seed, run in enumerate(RUNS)))
    for run in FINISHED:
        whole_run(store, run)
    for run in FAILED:
        claimed(store, run=run).fail("non_finite", "loss is NaN")
    for run in RUNNING:
        writers[run] = claimed(store, run=run)
        for step in (2, 4, 6):
            advance(writers[run], step)
    store.log.clear()
    return store


def read(store: MemoryStore) -> tuple[list[RunStatus], int]:
    """What the experiment's status says, and the requests it took; ages, which go on, are left out."""
    store.log.clear()
    statuses = experiment_status(store, EXPERIMENT)
    asked = len(store.log)
    assert not any(request.split()[0] in ("PUT", "CREATE", "SWAP", "DELETE") for request in store.log)
    return [replace(status, age_s=None) for status in statuses], asked


def one_by_one(store: MemoryStore) -> list[RunStatus]:
    return [replace(run_status(store, EXPERIMENT, run), age_s=None) for run in RUNS]


def test_with_an_index_finished_runs_cost_nothing_and_the_others_one_request(store: MemoryStore) -> None:
    update_index(store, EXPERIMENT, experiment_status(store, EXPERIMENT))
    statuses, asked = read(store)
    assert statuses == one_by_one(store)
    assert asked == 2 + len(FAILED) + len(RUNNING) + len(WAITING), "one GET of the index and one LIST"


def test_without_an_index_a_finished_run_costs_two_requests_and_a_running_one_three(store: MemoryStore) -> None:
    statuses, asked = read(store)
    assert statuses == one_by_one(store)
    assert asked == 2 + 2 * len(FINISHED) + 3 * len(FAILED) + 3 * len(RUNNING) + 2 * len(WAITING)


def test_an_old_index_costs_more_requests_and_shows_nothing_old(
    store: MemoryStore, writers: dict[str, RunWriter]
) -> None:
    update_index(store, EXPERIMENT, experiment_status(store, EXPERIMENT))
    ends, goes_on, far = RUNNING[:3]
    advance(writers[ends], 9)
    finish(writers[ends])
    advance(writers[goes_on], 8)
    for step in range(7, 40):
        advance(writers[far], step)
    whole_run(store, WAITING[0])
    claimed(store, "b", WAITING[1])
    claimed(store, "b", FAILED[0], retry_failed=True)
    statuses, asked = read(store)
    assert statuses == one_by_one(store)
    states = {status.run: status.state for status in statuses}
    assert (states[ends], states[goes_on], states[WAITING[0]], states[FAILED[0]]) == (
        "finished",
        "searching",
        "finished",
        "claimed",
    )
    one_record, several = 2, 5
    more = {goes_on: one_record, ends: one_record, far: several, WAITING[0]: 4, WAITING[1]: 2, FAILED[0]: 2}
    rest = len(FAILED) + len(RUNNING) + len(WAITING) - len(more)
    assert asked == 2 + rest + sum(more.values())


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-20],
        lambda data: b"",
        lambda data: data.replace(b'"schema_version":1', b'"schema_version":2'),
        lambda data: data.replace(b'"environment":0', b'"environment":7'),
        lambda data: data.replace(b'"experiment":"tiny"', b'"experiment":"tidy"'),
    ],
    ids=["cut", "empty", "newer", "without an environment", "of another experiment"],
)
def test_a_damaged_or_newer_index_is_not_believed(store: MemoryStore, damage: object) -> None:
    update_index(store, EXPERIMENT, experiment_status(store, EXPERIMENT))
    whole = store.objects[INDEX]
    _, unindexed = read(_without(store, INDEX))
    assert callable(damage)
    store.objects[INDEX] = damage(whole)
    assert store.objects[INDEX] != whole
    statuses, asked = read(store)
    assert statuses == one_by_one(store)
    assert asked == unindexed
    update_index(store, EXPERIMENT, statuses)
    assert read(store)[1] < unindexed, "the next writer replaces it"


def _without(store: MemoryStore, key: str) -> MemoryStore:
    copy = MemoryStore()
    for name, data in store.objects.items():
        if name != key:
            copy.put(name, data)
    return copy


def test_what_was_read_is_read_again_with_one_request_for_each_run_that_has_not_finished(store: MemoryStore) -> None:
    statuses = RunStatuses(store, EXPERIMENT)
    first = statuses.read_all(RUNS)
    store.log.clear()
    again = statuses.read_all(RUNS)
    assert [replace(status, age_s=None) for status in again] == [replace(status, age_s=None) for status in first]
    assert len(store.log) == len(FAILED) + len(RUNNING) + len(WAITING)


def test_the_age_of_a_run_goes_on_although_nothing_is_new(store: MemoryStore) -> None:
    statuses = RunStatuses(store, EXPERIMENT, [replace(run_status(store, EXPERIMENT, RUNNING[0]), age_s=100.0)])
    before = statuses.of(RUNNING[0]).age_s
    after = statuses.read(RUNNING[0]).age_s
    assert before is not None
    assert after is not None
    assert 100.0 < before < after
    assert statuses.of("unknown") == RunStatus("unknown", "waiting")


@pytest.mark.parametrize("advances", [1, 2, 3, 4, 9, 30])
@pytest.mark.parametrize("known", [None, -1, 0, 1, 2, 5])
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("head", ["fresh", "stale", "absent"])
def test_the_newest_record_is_found_from_any_that_is_known(
    advances: int, known: int | None, ends: bool, head: str
) -> None:
    store, keys = MemoryStore(), RunKeys(EXPERIMENT, RUNS[0])
    writer = claimed(store, run=RUNS[0])
    for step in range(1, advances + 1):
        stale = store.objects[keys.head]
        advance(writer, step)
    if ends:
        finish(writer)
    if head == "absent":
        del store.objects[keys.head]
    elif head == "stale":
        store.objects[keys.head] = stale
    tip = find_tip(store, keys)
    assert tip is not None
    wanted = None if known is not None and known >= tip.record.n else tip
    assert find_newer(store, keys, known) == wanted
