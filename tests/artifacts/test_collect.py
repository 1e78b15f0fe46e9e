"""Collection removes what nobody can refer to any more, and nothing else."""

from __future__ import annotations

import pytest

from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.experiment import register_run
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.verify import verify_experiment
from tests.artifacts.memory_store import Killed, MemoryStore
from tests.artifacts.runs import EXPERIMENT, KEYS, RUN, advance, claimed, finish, register, whole_run


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    register(store)
    return store


OTHER = "second-order-seed-4"


def killed_before_its_record(store: MemoryStore, session: str, run: str = RUN) -> list[str]:
    """A commit that put everything but its record; returns what it left."""
    writer = claimed(store, session, run)
    before = set(store.objects)
    store.schedule = [None, None, None, "killed_before"]
    with pytest.raises(Killed):
        advance(writer, writer.step + 2)
    return sorted(set(store.objects) - before)


def collect(store: MemoryStore, delete: bool = True, min_age_s: float = 0.0) -> list[str]:
    return [entry.key for entry in collect_experiment(store, EXPERIMENT, min_age_s, delete).garbage]


def test_what_a_live_writer_may_still_refer_to_stays(store: MemoryStore) -> None:
    left = killed_before_its_record(store, "a")
    assert len(left) == 3
    assert collect(store) == []
    claimed(store, "a")
    assert sorted(collect(store)) == left
    assert not set(left) & set(store.objects)


def test_without_delete_nothing_is_removed(store: MemoryStore) -> None:
    left = killed_before_its_record(store, "a")
    claimed(store, "b")
    before = dict(store.objects)
    assert sorted(collect(store, delete=False)) == left
    assert store.objects == before


def test_what_is_too_young_stays(store: MemoryStore) -> None:
    killed_before_its_record(store, "a")
    claimed(store, "b")
    assert collect(store, min_age_s=1.0) == []


def test_after_a_finish_only_what_is_referred_to_stays(store: MemoryStore) -> None:
    killed_before_its_record(store, "a")
    writer = claimed(store, "b")
    advance(writer, 2)
    killed_before_its_record(store, "c")
    last = claimed(store, "d")
    assert last.step == 2
    advance(last, 4)
    finish(last)
    publish_run(store, EXPERIMENT, RUN)
    collect(store)
    assert verify_experiment(store, EXPERIMENT).problems == []
    assert len([key for key in store.objects if key.startswith(KEYS.parts)]) == 2
    assert {KEYS.checkpoint_name(key).step for key in store.objects if "/checkpoints/" in key} == {4}  # type: ignore[union-attr]
    assert collect(store) == []


def test_records_descriptions_publications_and_foreign_objects_stay(store: MemoryStore) -> None:
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    store.put(KEYS.parts + "notes.txt", b"mine")
    store.put(f"{EXPERIMENT}/_notes/marker", b"mine")
    kept = {key for key in store.objects if "/checkpoints/" not in key}
    collect(store)
    assert kept <= set(store.objects)


def test_a_run_whose_log_cannot_be_read_whole_is_left_as_it_is(store: MemoryStore) -> None:
    register_run(store, EXPERIMENT, OTHER, 4, "second")
    left = killed_before_its_record(store, "a")
    advance(claimed(store, "b"), 2)
    other = killed_before_its_record(store, "a", OTHER)
    claimed(store, "b", OTHER)
    del store.objects[KEYS.record(1)]
    found = collect_experiment(store, EXPERIMENT, 0.0, delete=True)
    assert sorted(entry.key for entry in found.garbage) == other
    assert list(found.problems) == [RUN]
    assert set(left) <= set(store.objects)
