"""The line about a whole sweep: what has ended, what is at work, what is left."""

from __future__ import annotations

import pytest

from ray_darts.artifacts.records import Owner
from ray_darts.artifacts.status import RunState, RunStatus
from ray_darts.report.progress import seconds_left, sweep_line

OWNER = Owner(session="5" * 32, uuid="6" * 32, host="host", pid=1)


def run(name: str, state: RunState, step: int = 0, rate: float | None = None, total: int | None = 100) -> RunStatus:
    latest = {} if rate is None else {"steps_per_s": rate}
    owner = OWNER if state in ("searching", "claimed") else None
    return RunStatus(name, state, step, total if state != "waiting" else None, owner=owner, latest=latest)


@pytest.mark.parametrize(
    ("runs", "left"),
    [
        ([], None),
        ([run("a", "waiting")], None),
        ([run("a", "finished", 100, 2.0)], None),
        ([run("a", "searching", 40, 2.0)], 30.0),
        ([run("a", "finished", 100, 2.0), run("b", "waiting")], 50.0),
        ([run("a", "searching", 50, 1.0), run("b", "searching", 50, 1.0), run("c", "waiting")], 100.0),
        ([run("a", "searching", 0, 0.1), run("b", "searching", 99, 1.0)], 1000.0),
        ([run("a", "failed", 10, 1.0), run("b", "claimed")], 100.0),
    ],
)
def test_the_time_left_is_that_of_the_open_runs_at_the_present_rate(runs: list[RunStatus], left: float | None) -> None:
    assert seconds_left(runs) == left


def test_the_line() -> None:
    runs = [run("a", "finished", 100, 2.0), run("b", "searching", 40, 2.0), run("c", "waiting")]
    assert sweep_line(runs) == "1 of 3 runs have ended, 1 at work, about 1m20s left"
    assert sweep_line(runs[2:]) == "0 of 1 runs have ended"
