"""The thread that reads the runs' status: whom it asks and how often, what it shows, and what a bug in it becomes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.objects import Stored
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.artifacts.status_index import read_index
from ray_darts.artifacts.writer import RunWriter
from ray_darts.errors import StoreDenied, StoreUnavailable
from ray_darts.orchestration import status_reader
from ray_darts.orchestration.reports import RunReports, report_text
from ray_darts.orchestration.status_reader import StatusReader
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import EXPERIMENT, advance, claimed, finish, register, whole_run

RUNS = [f"run-{number}" for number in range(30)]
SESSION = "ours"
INDEX = ExperimentKeys(EXPERIMENT).status
BOUND_S = 60.0


class Mistaken(MemoryStore):
    def get(self, key: str) -> Stored:
        raise ZeroDivisionError("a mistake")


@pytest.fixture
def reports() -> RunReports:
    return RunReports()


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    register(store, *((run, seed) for seed, run in enumerate(RUNS)))
    return store


@contextmanager
def reading(
    store: MemoryStore, reports: RunReports, silent_s: float = 3600.0, started: list[str] = RUNS
) -> Iterator[StatusReader]:
    statuses = [RunStatus(run, "waiting") for run in RUNS]
    reader = StatusReader(store, EXPERIMENT, statuses, RUNS, lambda: started, lambda: reports, SESSION, silent_s)
    try:
        yield reader
    finally:
        reader.close()


def asked(store: MemoryStore, reader: StatusReader, everything: bool = False) -> dict[str, int]:
    """{run: requests} of one pass; the index is left out."""
    store.log.clear()
    assert reader.refresh(BOUND_S, everything)
    runs = [request.split("/")[2] for request in list(store.log) if INDEX not in request]
    return {run: runs.count(run) for run in sorted(set(runs))}


def at_work(store: MemoryStore) -> dict[str, RunWriter]:
    return {run: claimed(store, SESSION, run) for run in RUNS}


def test_a_bug_of_the_reader_is_raised_and_not_waited_for() -> None:
    reader = StatusReader(Mistaken(), "e", [RunStatus("run", "waiting")], ["run"], lambda: ["run"])
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        reader.refresh(60.0)
    with pytest.raises(ZeroDivisionError):
        reader.refresh(60.0)


def test_a_pass_asks_of_the_runs_that_have_reported_and_of_no_other(store: MemoryStore, reports: RunReports) -> None:
    writers = at_work(store)
    with reading(store, reports) as reader:
        assert asked(store, reader) == dict.fromkeys(sorted(RUNS), 2)
        assert asked(store, reader) == {}
        reports.add(report_text(RUNS[3], {"epoch": 0}))
        reports.add(report_text(RUNS[5], {"epoch": 0}))
        advance(writers[RUNS[5]], 4)
        assert asked(store, reader) == {RUNS[3]: 1, RUNS[5]: 2}
        assert asked(store, reader) == {}
        assert (reader.of(RUNS[5]).step, reader.of(RUNS[3]).step) == (4, 0)


def test_a_silent_run_is_asked_after_the_time_in_which_it_should_have_reported(
    store: MemoryStore, reports: RunReports
) -> None:
    at_work(store)
    with reading(store, reports, silent_s=0.0) as reader:
        asked(store, reader)
        assert asked(store, reader) == dict.fromkeys(sorted(RUNS), 1)


def test_a_run_that_starts_is_asked_more_often_than_a_silent_one_at_work(
    store: MemoryStore, reports: RunReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_reader, "_STARTING_S", 0.0)
    monkeypatch.setattr(status_reader, "_SHARE_OF_WAIT", 0.0)
    claimed(store, SESSION, RUNS[0])
    claimed(store, "another", RUNS[1])
    with reading(store, reports) as reader:
        asked(store, reader)
        assert asked(store, reader) == dict.fromkeys(sorted(RUNS[1:]), 1), "nobody of this command works at these"


def test_an_ended_run_is_asked_once_and_never_again(store: MemoryStore, reports: RunReports) -> None:
    writers = at_work(store)
    with reading(store, reports, silent_s=0.0) as reader:
        asked(store, reader)
        advance(writers[RUNS[0]], 9)
        finish(writers[RUNS[0]])
        reports.end(RUNS)
        assert set(asked(store, reader)) == set(RUNS)
        assert asked(store, reader) == {}
        assert asked(store, reader, everything=True) == {}
        assert reader.of(RUNS[0]).state == "finished"


def test_a_finished_run_is_not_asked_although_it_reports(store: MemoryStore, reports: RunReports) -> None:
    whole_run(store, RUNS[0])
    with reading(store, reports, silent_s=0.0, started=RUNS[:1]) as reader:
        asked(store, reader)
        reports.add(report_text(RUNS[0], {"epoch": 2}))
        assert asked(store, reader) == {}


def test_everything_is_every_run_that_has_started(store: MemoryStore, reports: RunReports) -> None:
    at_work(store)
    with reading(store, reports, started=RUNS[:4]) as reader:
        asked(store, reader)
        assert asked(store, reader, everything=True) == dict.fromkeys(RUNS[:4], 1)


def test_what_a_run_reports_is_shown_before_it_is_durable_and_not_after_a_new_start(
    store: MemoryStore, reports: RunReports
) -> None:
    run = RUNS[0]
    writer = claimed(store, SESSION, run)
    advance(writer, 3)
    with reading(store, reports, started=[run]) as reader:
        asked(store, reader)
        assert reader.of(run).epoch == 0
        reports.add(report_text(run, {"epoch": 4, "validation_loss": 0.5}))
        asked(store, reader)
        shown = reader.of(run)
        assert (shown.epoch, shown.step, shown.latest["validation_loss"]) == (4, 3, 0.5)
        assert shown.record is None, "no record says so"
        claimed(store, SESSION, run)
        asked(store, reader, everything=True)
        assert reader.of(run).epoch == 0, "the start that had come to epoch 4 was lost"
        reports.add(report_text(run, {"epoch": 0, "validation_loss": 0.25}))
        asked(store, reader)
        assert reader.of(run).latest["validation_loss"] == 2.0, "of the same epoch the record counts"


class Unreliable(MemoryStore):
    """Does not answer for one run while `down`."""

    down = False

    def get(self, key: str) -> Stored:
        if self.down and f"/{RUNS[1]}/" in key:
            raise StoreUnavailable("no answer")
        return super().get(key)


def test_a_run_that_cannot_be_read_stays_as_it_was_and_is_asked_again(reports: RunReports) -> None:
    store = Unreliable()
    register(store, *((run, seed) for seed, run in enumerate(RUNS)))
    at_work(store)
    store.down = True
    with reading(store, reports) as reader:
        asked(store, reader)
        assert {reader.of(RUNS[0]).state, reader.of(RUNS[1]).state} == {"claimed", "waiting"}
        store.down = False
        assert set(asked(store, reader)) == {RUNS[1]}
        assert reader.of(RUNS[1]).state == "claimed"


class Meeting(MemoryStore):
    """Answers once eight requests wait at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.meeting = threading.Barrier(1)

    def get(self, key: str) -> Stored:
        if key != INDEX:
            self.meeting.wait(BOUND_S)
        return super().get(key)


def test_runs_are_read_at_the_same_time(reports: RunReports) -> None:
    store = Meeting()
    register(store, *((run, seed) for seed, run in enumerate(RUNS)))
    with reading(store, reports, started=RUNS[:16]) as reader:
        store.meeting = threading.Barrier(8)
        assert len(asked(store, reader)) == 16


def test_the_index_has_what_is_durable_and_is_written_now_and_then(
    store: MemoryStore, reports: RunReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = at_work(store)
    with reading(store, reports) as reader:
        reader.refresh(BOUND_S)
        reader.refresh(BOUND_S)  # the index is written after a pass
        assert set(read_index(store, EXPERIMENT).statuses) == set(RUNS)
        advance(writers[RUNS[0]], 3)
        reports.add(report_text(RUNS[0], {"epoch": 9}))
        asked(store, reader)
        reader.refresh(BOUND_S)
        assert read_index(store, EXPERIMENT).statuses[RUNS[0]].step == 0, "not every pass"
        monkeypatch.setattr(status_reader, "INDEX_EVERY_S", 0.0)
        asked(store, reader)
        reader.refresh(BOUND_S)
        known = read_index(store, EXPERIMENT).statuses[RUNS[0]]
        assert replace(known, age_s=0.0) == replace(run_status(store, EXPERIMENT, RUNS[0]), age_s=0.0)


class Denying(MemoryStore):
    """A store without the right to write the index."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        if key == INDEX:
            self.log.append("denied")
            raise StoreDenied("no right")
        super().put_if_absent(key, data)


def test_a_missing_right_to_the_index_is_found_once(reports: RunReports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_reader, "INDEX_EVERY_S", 0.0)
    store = Denying()
    register(store, *((run, seed) for seed, run in enumerate(RUNS)))
    with reading(store, reports) as reader:
        for _ in range(3):
            assert reader.refresh(BOUND_S)
        assert store.log.count("denied") == 1
