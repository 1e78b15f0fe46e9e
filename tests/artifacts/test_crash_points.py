"""A run interrupted at any named moment, and continued, ends as one that nothing touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray_darts.artifacts.best import read_best
from ray_darts.artifacts.crash_points import CRASH_POINTS, crash_point, set_crash_hook
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.run_log import find_tip, read_log
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.artifacts.writer import RunWriter
from ray_darts.errors import RunFailed, RunFinished
from tests.artifacts.memory_store import Killed
from tests.artifacts.runs import EXPERIMENT, KEYS, PUBLISHED, RUN, advance, claimed, finish, register

ON_THE_WAY = [name for name in CRASH_POINTS if not name.startswith("fail.")]


@pytest.fixture(autouse=True)
def no_hook() -> Iterator[None]:
    yield
    set_crash_hook(None)


def search(store: ObjectStore, session: str) -> None:
    """What a search does with its run, from wherever it stands: the same command again."""
    try:
        writer = claimed(store, session)
    except RunFinished:
        publish_run(store, EXPERIMENT, RUN)
        return
    checkpoint = writer.load_checkpoint()
    assert writer.step == (0 if checkpoint is None else checkpoint.state["step"])
    go_on(writer)
    publish_run(store, EXPERIMENT, RUN)


def go_on(writer: RunWriter) -> None:
    for step in (2, 4, 6, 8, 9):
        if step > writer.step:
            advance(writer, step)
    finish(writer)


def kill_at(name: str, count: int) -> Callable[[str], None]:
    """A hook that ends the process when `name` is passed for the count-th time (from 1)."""
    passed = [0]

    def hook(seen: str) -> None:
        passed[0] += seen == name
        if seen == name and passed[0] == count:
            raise Killed

    return hook


def outcome(store: ObjectStore) -> tuple[bytes, ...]:
    assert verify_experiment(store, EXPERIMENT).problems == []
    answer = read_best(store, EXPERIMENT, verify=True).architecture().to_json().encode()
    return (answer, *(store.get(key).data for key in PUBLISHED))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    store = open_store(str(tmp_path_factory.mktemp("untouched")))
    register(store)
    search(store, "one")
    return outcome(store)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ON_THE_WAY)
def test_a_run_killed_at_a_crash_point_ends_as_an_untouched_one(
    tmp_path: Path, untouched: tuple[bytes, ...], name: str, count: int
) -> None:
    store = open_store(str(tmp_path))
    register(store)
    set_crash_hook(kill_at(name, count))
    try:
        search(store, "one")
    except Killed:
        assert find_tip(store, KEYS) is not None or name == "claim.before_record"
    else:
        assert count > 1, f"{name} is never passed"
    set_crash_hook(None)
    search(store, "one")
    assert outcome(store) == untouched


def test_a_run_killed_at_every_point_in_turn_ends_as_an_untouched_one(
    tmp_path: Path, untouched: tuple[bytes, ...]
) -> None:
    store = open_store(str(tmp_path))
    register(store)
    kills = 0
    points = [name for name in ON_THE_WAY if name != "finish.acknowledged"]  # nobody passes it after the record
    for session, name in enumerate(points):
        set_crash_hook(kill_at(name, 2 if name in ("advance.after_part", "advance.after_checkpoint") else 1))
        try:
            search(store, f"session-{session}")
        except Killed:
            kills += 1
    assert kills == len(points)
    set_crash_hook(None)
    search(store, "last")
    assert outcome(store) == untouched


@pytest.mark.parametrize("name", [name for name in CRASH_POINTS if name.startswith("fail.")])
def test_a_failure_interrupted_is_reported_once_or_not_at_all(tmp_path: Path, name: str) -> None:
    store = open_store(str(tmp_path))
    register(store)
    writer = claimed(store)
    advance(writer, 2)
    set_crash_hook(kill_at(name, 1))
    with pytest.raises(Killed):
        writer.fail("non_finite", "NaN")
    set_crash_hook(None)
    if name == "fail.before_record":
        assert claimed(store, "b").step == 2
    else:
        with pytest.raises(RunFailed):
            claimed(store, "b")
        assert [entry.record.kind for entry in read_log(store, KEYS)] == ["claim", "advance", "fail"]


def test_a_misspelt_crash_point_is_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        crash_point("advance.sometime")
