"""The best pointer: one GET, a total order, never worse."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence

import pytest

from ray_darts.artifacts.best import Best, candidate, offer_best, read_best
from ray_darts.artifacts.experiment import read_run
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.records import Direction, Metric
from ray_darts.artifacts.run_log import find_tip
from ray_darts.errors import CorruptObject, MissingObject
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import EXPERIMENT, RUN, genotype_after, register, whole_run

KEY = ExperimentKeys(EXPERIMENT).best


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    register(store)
    return store


def best(run: str, value: float | None, direction: Direction = "max", selected: bool = False) -> Best:
    return Best(
        experiment=EXPERIMENT,
        run=run,
        seed=0,
        order="first",
        genotype={},
        metric=Metric(name="m", value=value, direction=direction, ranking="selected" if selected else "interim"),
        step=1,
        genotype_step=1,
        record_key=RunKeys(EXPERIMENT, run).record(1),
        record_sha256="0",
    )


@pytest.mark.parametrize(
    "worst_first",
    [
        [
            best("b", None),
            best("a", None),
            best("a", 0.1),
            best("c", 0.5),
            best("b", 0.5),
            best("z", 0.1, selected=True),
        ],
        [best("a", None, "min"), best("a", 90.0, "min"), best("a", 60.0, "min")],
    ],
    ids=["max", "min"],
)
def test_candidates_form_a_total_order(store: MemoryStore, worst_first: Sequence[Best]) -> None:
    for (i, left), (j, right) in itertools.product(enumerate(worst_first), repeat=2):
        assert left.beats(right) == (i > j)
    for order in itertools.islice(itertools.permutations(worst_first), 0, None, 7):
        store.objects.pop(KEY, None)
        for offered in order:
            offer_best(store, offered)
        assert store.objects[KEY] == worst_first[-1].to_bytes()


def test_an_offer_says_whether_it_was_taken(store: MemoryStore) -> None:
    assert offer_best(store, best("a", 0.5))
    assert not offer_best(store, best("a", 0.5))
    assert not offer_best(store, best("b", 0.4))
    assert offer_best(store, best("b", 0.6))


def test_an_offer_overtaken_by_a_better_one_gives_way(store: MemoryStore) -> None:
    offer_best(store, best("a", 0.1))
    store.schedule = ["overtaken"]
    store.overtake = lambda: store.put(KEY, best("c", 0.9).to_bytes())
    assert not offer_best(store, best("b", 0.5))
    assert Best.from_bytes(store.objects[KEY], KEY).run == "c"


def test_an_offer_overtaken_by_a_worse_one_tries_again(store: MemoryStore) -> None:
    store.schedule = ["overtaken"]
    store.overtake = lambda: store.put(KEY, best("c", 0.1).to_bytes())
    assert offer_best(store, best("b", 0.5))
    assert Best.from_bytes(store.objects[KEY], KEY).run == "b"


def published(store: MemoryStore) -> None:
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    store.log.clear()


def test_the_best_costs_one_get_and_two_more_to_verify(store: MemoryStore) -> None:
    published(store)
    assert read_best(store, EXPERIMENT).architecture() == genotype_after(9)
    assert store.log == [f"GET {KEY}"]
    read_best(store, EXPERIMENT, verify=True)
    assert len(store.log) == 4
    assert not any(request.startswith("LIST") for request in store.log)


def test_without_a_finished_run_there_is_no_best_and_it_says_so(store: MemoryStore) -> None:
    with pytest.raises(MissingObject, match="no run of 'tiny' has finished"):
        read_best(store, EXPERIMENT)


@pytest.mark.parametrize("old", [b'"value":0.5', b'"operation":"sep', b'"experiment":"tiny"', b"000000000006.json"])
def test_a_best_that_was_tampered_with_is_refused(store: MemoryStore, old: bytes) -> None:
    published(store)
    new = {b'"value":0.5': b'"value":0.9', b'"operation":"sep': b'"operation":"dil'}.get(
        old, old[:-3] + b"x" + old[-2:]
    )
    assert old in store.objects[KEY]
    store.objects[KEY] = store.objects[KEY].replace(old, new, 1)
    with pytest.raises((CorruptObject, MissingObject)):
        read_best(store, EXPERIMENT, verify=True)


def test_a_selection_replaces_the_interim_metric(store: MemoryStore) -> None:
    published(store)
    keys = RunKeys(EXPERIMENT, RUN)
    finish = find_tip(store, keys)
    assert finish is not None
    chosen = Metric(name="selection_validation_accuracy", value=0.1, direction="max", ranking="selected")
    assert offer_best(store, candidate(keys, read_run(store, EXPERIMENT, RUN), finish, chosen))
    assert read_best(store, EXPERIMENT, verify=True).metric == chosen


def test_reading_the_best_imports_no_torch_no_ray_no_pyarrow() -> None:
    code = (
        "import sys; import ray_darts.artifacts.best, ray_darts.artifacts.open, ray_darts.artifacts.s3;"
        "print([name for name in ('torch', 'ray', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"
