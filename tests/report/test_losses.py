"""What was lost under a run is shown where people look: in status, in its summary and in the timeline of the page."""

from __future__ import annotations

from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.records import Spent
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.cli.status import run_data
from ray_darts.report.page.timeline import terms_of
from ray_darts.report.summary import summary_data, summary_lines
from ray_darts.report.table import status_text
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import EXPERIMENT, RUN, advance, claimed, finish, register

RUNS = [
    RunStatus("a", "searching", preemptions=2, failures=1, spent=Spent(worker_s=7200.0, cost=1.5)),
    RunStatus("b", "searching", preemptions=1, spent=Spent(worker_s=3600.0)),
    RunStatus("c", "waiting"),
]


def test_the_table_has_a_line_for_each_run_that_lost_something() -> None:
    lines = status_text(RUNS).splitlines()
    assert [line for line in lines if ": lost" in line] == ["a: lost 2 machines, 1 process", "b: lost 1 machine"]


def test_the_summary_adds_up_what_was_used_and_lost() -> None:
    assert "3 worker-hours, 1.5 of cost; lost: 3 machines, 1 process" in summary_lines(RUNS, None, 3)
    data = summary_data(RUNS, None)
    assert (data["worker_hours"], data["cost"], data["preemptions"], data["failures"]) == (3.0, 1.5, 3, 1)
    assert len(summary_lines(RUNS[2:], None, 1)) == 1, "nothing is said of runs that have used nothing"
    assert run_data(RUNS[0])["spent"] == {"worker_s": 7200.0, "cost": 1.5}


def test_the_timeline_says_how_each_start_ended() -> None:
    store = MemoryStore()
    register(store)
    advance(claimed(store), 2)
    advance(claimed(store, previous_end="node"), 4)
    claimed(store, previous_end="process")
    claimed(store, previous_end="itself")
    last = claimed(store)
    advance(last, 9)
    terms = list(terms_of([entry.record for entry in read_log(store, RunKeys(EXPERIMENT, RUN))]))
    endings = ["machine lost", "process lost", "ended by itself", "lost or stopped"]
    assert [term.ending for term in terms] == [*endings, "in progress"]
    finish(last)
    terms = list(terms_of([entry.record for entry in read_log(store, RunKeys(EXPERIMENT, RUN))]))
    assert [term.ending for term in terms] == [*endings, "finished"]
    status = run_status(store, EXPERIMENT, RUN)
    assert (status.preemptions, status.failures) == (1, 2)
