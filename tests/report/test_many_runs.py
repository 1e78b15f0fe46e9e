"""A thousand runs: what the live table and the log of a search show of them is bounded, and soon made."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from ray_darts.artifacts.records import Failure, Metric
from ray_darts.artifacts.status import RunStatus
from ray_darts.report import table as table_module
from ray_darts.report.plain_table import table_lines
from ray_darts.report.summary import best_metric
from ray_darts.report.table import LiveTable

WAITING = [RunStatus(f"first-order-seed-{seed}", "waiting") for seed in range(1000)]
SEARCHING = [replace(run, state="searching", step=4, total_steps=9, latest={"epoch": 0}) for run in WAITING]
LATER = [replace(run, latest={"epoch": 1}) for run in SEARCHING]
FAILED = replace(WAITING[700], state="failed", failure=Failure(kind="non_finite", detail="loss is NaN"))
FINISHED = replace(WAITING[900], state="finished")


def logged(capsys: pytest.CaptureFixture[str], *passes: list[RunStatus]) -> list[list[str]]:
    """The lines that each pass adds to a log, without the place at their end."""
    added = []
    with LiveTable("demo", Console(file=io.StringIO(), force_terminal=False)) as table:
        for runs in passes:
            table.show(runs)
            added.append([line.partition(" experiment=")[0] for line in capsys.readouterr().err.splitlines()])
    return added


def test_a_log_has_a_bounded_number_of_lines_a_pass(capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = logged(capsys, WAITING, SEARCHING, LATER)
    assert first == [*(f"{run.run}: waiting step 0" for run in WAITING[:20]), "980 more runs have changed: 980 waiting"]
    assert len(second) == 21
    assert second[-1] == "980 more runs have changed: 980 searching"
    assert third == [], "of so many runs no line for each epoch"


def test_the_runs_that_matter_are_logged_first(capsys: pytest.CaptureFixture[str]) -> None:
    changed = {run.run: run for run in (FAILED, FINISHED)}
    _, added = logged(capsys, WAITING, [changed.get(run.run, run) for run in SEARCHING])
    assert added[0] == "2 of 1000 runs have ended, 998 at work; 1 failed, 998 searching, 1 finished"
    assert added[1].startswith(f"{FAILED.run}: failed")
    assert len(added) == 22
    assert added[-1] == "980 more runs have changed: 979 searching, 1 finished"
    _, _, added = logged(capsys, WAITING, SEARCHING, [changed.get(run.run, run) for run in SEARCHING])
    assert [line.partition(":")[0] for line in added[1:]] == [FAILED.run, FINISHED.run]


def test_a_log_of_many_runs_has_a_summary_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "_SUMMARY_EVERY_S", 0.0)
    _, added = logged(capsys, SEARCHING, LATER)
    assert added == ["0 of 1000 runs have ended, 1000 at work; 1000 searching"]


def test_a_terminal_shows_as_many_runs_as_it_has_room_for_and_counts_the_others() -> None:
    screen = io.StringIO()
    runs = [{run.run: run for run in (FAILED, *SEARCHING[:3])}.get(run.run, run) for run in WAITING]
    with LiveTable("demo", Console(file=screen, force_terminal=True, width=80, height=30, color_system=None)) as table:
        table.show(runs)
        shown = screen.getvalue()
    lines = [line.rstrip() for line in shown.splitlines() if line.strip()]
    assert len(lines) <= 30
    rows = [line.split()[0] for line in lines if "order-seed" in line]
    assert rows == [FAILED.run, *(run.run for run in SEARCHING[:3]), *(run.run for run in WAITING[3:21])]
    assert lines[-2:] == ["and 978 more runs: 978 waiting", "1 of 1000 runs have ended, 3 at work"]


def test_many_warnings_are_cut_and_each_is_printed_once() -> None:
    screen = io.StringIO()
    warned = [replace(run, latest={"epoch": 0, "warning": "only skips"}) for run in SEARCHING]
    with LiveTable("demo", Console(file=screen, force_terminal=False, width=200), quiet=True) as table:
        table.show(warned)
        table.show(warned)
    lines = screen.getvalue().splitlines()
    assert len(lines) == 21
    assert lines[-1] == "980 more runs have warnings: ray-darts status demo"


def test_a_table_drops_columns_in_order_and_folds_the_first() -> None:
    rows = [
        {"run": "abcdefgh", "step": "12", "loss": "0.5", "age": ""},
        {"run": "ab", "step": "3", "loss": "", "age": ""},
    ]

    def lines(width: int) -> list[str]:
        head, body = table_lines(
            rows, ("run", "step", "loss", "age"), dropped=("loss", "step"), left=("run",), titles={}, width=width
        )
        return [*head, *(line for row in body for line in row)]

    assert lines(22) == ["run        step   loss", "─" * 22, "abcdefgh     12    0.5", "ab            3"]
    assert lines(21) == ["run        step", "─" * 15, "abcdefgh     12", "ab            3"]
    assert lines(3) == ["run", "───", "abc", "def", "gh", "ab"]


def test_the_best_of_several_runs_is_that_of_the_direction_of_their_metric() -> None:
    def scored(run: str, value: float | None, direction: str = "max", name: str = "a") -> RunStatus:
        metric = {"name": name, "value": value, "direction": direction}
        return RunStatus(run, "finished", metric=Metric.model_validate(metric))

    assert best_metric([WAITING[0], scored("x", None)]) is None
    best = best_metric([scored("x", 0.5), scored("z", 0.75), scored("y", 0.75), scored("w", 9.0, name="b")])
    assert best is not None
    assert best[0] == "y"
    least = best_metric([scored("x", 0.5, "min"), scored("y", 0.75, "min")])
    assert least is not None
    assert least[0] == "x"
