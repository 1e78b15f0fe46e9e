"""The table of a search in real terminals of 80, 120 and 200 columns, and what two Ctrl-C leave there."""

from __future__ import annotations

import time

import pytest

from tests.cli.terminal import Terminal, screen

RUNS = [f"{order}-order-seed-{seed}" for order in ("second", "first") for seed in (0, 1)]
PROGRAM = f"""
import sys, time
from ray_darts import searches
from ray_darts.artifacts.records import Owner
from ray_darts.artifacts.status import RunStatus
from ray_darts.cli.exits import with_exit_codes
from ray_darts.cli.sweep import search_and_report
from ray_darts.config import load_config
from ray_darts.orchestration.assignment import Assignment, new_session
from ray_darts.orchestration.requests import SearchRequest
from ray_darts.orchestration.supervisor import Limits, Supervisor

class Endless:
    started, reports = (), {{}}
    def fit(self): time.sleep(600)
    def request_stop(self, reason): sys.stderr.write("the runs are asked\\n")
    def clear_stop(self): pass
    def describe_waiting(self): pass

config = load_config("digits")
owner = Owner(session="0123456789abcdef", uuid="u", host="node-1.example.internal", pid=1)
latest = {{"epoch": 3, "validation_loss": 0.25, "validation_accuracy": 0.9312, "steps_per_s": 2.0,
          "normal.entropy": 1.5, "reduction.entropy": 1.75, "normal.skips": 1, "reduction.skips": 4}}

def run_request(request, observer):
    facts = dict(config=config, experiment="e", store_uri="x", session=new_session(), device="cpu", data_digests={{}})
    of = lambda run: dict(run=run, coordinates=dict(seed=int(run[-1]), order=run.split("-")[0]))
    runs = [Assignment(**of(run), **facts) for run in {RUNS}]
    statuses = [RunStatus(run, "searching", 40, 19500, owner=owner, age_s=75.0, latest=latest) for run in {RUNS[:2]}]
    statuses += [RunStatus(run, "waiting") for run in {RUNS[2:]}]
    return Supervisor(Endless(), runs, None, statuses, observer, Limits(observe_s=0.05)).run()

searches.run_search = run_request
with_exit_codes(search_and_report)(SearchRequest(config, "e", "x", (0, 1), ("first", "second")))
"""
CODE = "\nimport typer\ntry:\n    main()\nexcept typer.Exit as end:\n    sys.exit(end.exit_code)\n"
SEARCH = PROGRAM.replace("with_exit_codes(search", "main = lambda: with_exit_codes(search") + CODE
STOPPING = "SIGINT: the runs commit and end; a second signal ends this command at once"
ASKED = "the runs are asked"
COLUMNS = {
    80: "run state epoch step loss accuracy left",
    120: "run state epoch step loss accuracy entropy skips left age",
    200: "run state epoch step loss accuracy entropy skips left age owner",
}


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("columns", [80, 120, 200])
def test_a_search_fits_its_terminal_and_two_ctrl_c_leave_the_line_that_says_how_to_continue(
    columns: int, unbuffered: str
) -> None:
    with Terminal(SEARCH, columns, PYTHONUNBUFFERED=unbuffered) as terminal:
        *lines, progress = terminal.wait_for("at work").splitlines()
        assert lines[0] == "experiment e in x: 2 seeds, first and second order"
        assert " ".join(lines[1].split()) == COLUMNS[columns]
        assert [line.split()[0] for line in lines[3:]] == RUNS, "each once, whole, on one line"
        assert progress.startswith("0 of 4 runs have ended, 2 at work")
        assert "…" not in terminal.written
        terminal.type("\x03")
        terminal.wait_for(ASKED)
        time.sleep(1.0)  # as a person does: not amid the writing of that line
        terminal.type("\x03")
        assert terminal.wait() == 130
        continues = "everything committed is safe: the same command continues"
        assert terminal.screen.splitlines() == [lines[0], STOPPING, ASKED, continues]


def test_a_screen_wraps_moves_up_and_erases() -> None:
    assert screen("abcd\r\n", 3) == "abc\nd"
    assert screen("abc\r\nde\x1b[1A\x1b[2K\rX", 3) == "X\nde"
    assert screen("abc\x1b[1mdef\x1b[0m", 6) == "abcdef"
