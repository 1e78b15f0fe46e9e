"""The protocol under thousands of schedules, and proof that the schedules would catch a broken protocol."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from ray_darts.artifacts import compact, run_log, writer
from ray_darts.errors import RayDartsError
from tests.artifacts.compaction_mutants import COMPACTION_MUTANTS, delete_though_another_collector_was_first
from tests.artifacts.compaction_protocol import CompactionProtocol, let_two_collectors_meet_at_every_read
from tests.artifacts.folder_mutants import FOLDER_MUTANTS
from tests.artifacts.folder_protocol import FolderProtocol
from tests.artifacts.mutants import MUTANTS
from tests.artifacts.protocol import Protocol

INSTANT = "2026-01-01T00:00:00.000+00:00"
NUM_PROCESSES = 2


def run(schedules: int, machine: type[Protocol] = Protocol) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=schedules,
            stateful_step_count=20,
            phases=(Phase.generate,),
            derandomize=True,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def run_in_processes(schedules: int, machine: type[Protocol] = Protocol) -> None:
    """As `run`, half of the schedules in each of two processes, which have seeds of their own."""
    with multiprocessing.get_context("spawn").Pool(NUM_PROCESSES) as pool:  # its end terminates the processes
        number = schedules // NUM_PROCESSES
        for part in [pool.apply_async(run_seeded, (number, machine, each)) for each in range(NUM_PROCESSES)]:
            part.get()


def run_seeded(schedules: int, machine: type[Protocol], number: int) -> None:
    """In a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        stop_clocks(patch)
        run(schedules, seed(number)(type(machine.__name__, (machine,), {})))


def stop_clocks(patch: pytest.MonkeyPatch) -> None:
    for module in (compact, run_log, writer):
        patch.setattr(module, "now_text", lambda: INSTANT)


@pytest.fixture(autouse=True)
def one_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may rest on clocks: every record is written at the same moment."""
    stop_clocks(monkeypatch)


def test_the_invariants_hold_in_300_schedules() -> None:
    run_in_processes(300)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_invariants_hold_in_2000_schedules() -> None:
    run_in_processes(2000)


def test_the_invariants_hold_in_20_schedules_on_a_folder() -> None:
    run(20, FolderProtocol)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_invariants_hold_in_500_schedules_on_a_folder() -> None:
    run_in_processes(500, FolderProtocol)


def test_the_invariants_hold_in_100_schedules_of_compaction() -> None:
    run_in_processes(100, CompactionProtocol)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_invariants_hold_in_2000_schedules_of_compaction() -> None:
    run_in_processes(2000, CompactionProtocol)


def test_two_collectors_may_meet_at_every_read() -> None:
    assert let_two_collectors_meet_at_every_read() > 20


def test_a_collector_that_deletes_though_another_was_first_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the schedules below: random ones meet between the two requests that matter too seldom."""
    delete_though_another_collector_was_first(monkeypatch)
    with pytest.raises(AssertionError, match="gone"):
        let_two_collectors_meet_at_every_read()


BROKEN = [  # several times as many schedules as catch them today: a caught one ends at once
    *((mutant, FolderProtocol, 80) for mutant in FOLDER_MUTANTS),
    *((mutant, CompactionProtocol, 500) for mutant in COMPACTION_MUTANTS),
    *((mutant, Protocol, 1500) for mutant in MUTANTS),
]


@pytest.mark.parametrize(("mutant", "machine", "schedules"), BROKEN, ids=[mutant.__name__ for mutant, *_ in BROKEN])
def test_what_is_broken_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None],
    machine: type[Protocol],
    schedules: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutant(monkeypatch)
    with pytest.raises((AssertionError, RayDartsError)):
        run(schedules, machine)
