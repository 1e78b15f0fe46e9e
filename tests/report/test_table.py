import io
from dataclasses import replace

import pytest
from rich.console import Console

from ray_darts.artifacts.records import Failure, Metric, Owner
from ray_darts.artifacts.status import RunStatus
from ray_darts.report.table import LiveTable, status_line, status_table, status_text

OWNER = Owner(session="0123456789abcdef", uuid="u", host="node-1", pid=1)
LATEST: dict[str, float | int | str | None] = {
    "epoch": 3,
    "validation_loss": 0.25,
    "validation_accuracy": 0.9312,
    "steps_per_s": 2.0,
    "normal.entropy": 1.5,
    "reduction.entropy": 1.75,
    "normal.skips": 1,
    "reduction.skips": 4,
}
SEARCHING = RunStatus("first-order-seed-0", "searching", 40, 100, owner=OWNER, age_s=75.0, latest=LATEST)
WAITING = RunStatus("first-order-seed-1", "waiting")
TEXT = RunStatus("first-order-seed-2", "searching", 40, 100, latest={"epoch": 0, "validation_perplexity": 310.25})


def test_a_searching_run_shows_all_its_numbers_and_the_time_left() -> None:
    header, rule, row = status_text([SEARCHING]).splitlines()
    assert " ".join(header.split()) == "run state epoch step loss accuracy entropy skips left age owner"
    assert set(rule) == {"─"}
    numbers = "3 40/100 0.250 93.1% 1.500 1.750 1 4 30s 1m15s"
    assert " ".join(row.split()) == f"first-order-seed-0 searching {numbers} node-1/01234567"


def test_empty_columns_are_left_out() -> None:
    assert status_text([WAITING]).splitlines()[0].split() == ["run", "state", "step"]


def test_a_narrow_table_leaves_out_the_less_important_columns_and_shortens_no_name() -> None:
    runs = [replace(SEARCHING, run=f"pc-darts-second-order-seed-{seed}") for seed in range(8)]
    heads = {}
    for width in range(30, 140):
        lines = status_text(runs, width).splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in "".join(lines)
        heads[width] = lines[0].split()
        if width >= 40:
            assert [line.split()[0] for line in lines[2:]] == [run.run for run in runs]
    assert [heads[40], heads[60]] == [["run", "state"], ["run", "state", "step", "accuracy"]]
    assert heads[80] == ["run", "state", "epoch", "step", "accuracy", "left"]
    assert heads[139][-1] == "owner"


def test_text_has_a_perplexity() -> None:
    header, _, row = status_text([TEXT]).splitlines()
    assert "perplexity" in header
    assert "accuracy" not in header
    assert "310.2" in row


def test_the_quality_column_has_the_name_of_any_metric_that_a_status_has() -> None:
    run = RunStatus("r", "searching", 4, 9, latest={"epoch": 0, "validation_loss": 1.0, "validation_f1": 0.71239})
    assert status_text([run]).splitlines()[0].split()[-2:] == ["loss", "f1"]
    assert "f1 0.7124" in status_line(run)
    assert "accuracy" not in status_line(RunStatus("r", "searching", latest={"validation_accuracy": None}))


def test_of_several_qualities_the_one_that_ranks_the_run_is_shown() -> None:
    metric = Metric(name="supernet_validation_recall", value=0.5, direction="max")
    latest: dict[str, float | int | str | None] = {"validation_precision": 0.25, "validation_recall": 0.5}
    assert "recall 0.5" in status_line(RunStatus("r", "finished", metric=metric, latest=latest))


def test_a_failure_is_a_line_below_the_table() -> None:
    failed = RunStatus("first-order-seed-3", "failed", failure=Failure(kind="non_finite", detail="loss is NaN"))
    assert status_text([failed]).splitlines()[-1] == "first-order-seed-3 failed: loss is NaN"


def test_without_runs_there_is_no_table() -> None:
    assert status_text([]) == "no run has been started yet"


def test_without_a_speed_no_time_left_is_shown() -> None:
    for latest in ({}, {"steps_per_s": 0.0}):
        assert "left" not in status_line(RunStatus("r", "searching", 1, 10, latest=latest))
    assert "left" not in status_line(RunStatus("r", "finished", 10, 10, latest=LATEST))


def test_a_line_has_what_is_known() -> None:
    assert status_line(WAITING) == "first-order-seed-1: waiting step 0"
    numbers = "epoch 3 step 40/100 loss 0.250 accuracy 93.1% entropy 1.500 1.750 skips 1 4 left 30s"
    assert status_line(SEARCHING) == f"first-order-seed-0: searching {numbers}"


def test_where_there_is_no_terminal_a_line_is_written_once_per_state_and_epoch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    later = RunStatus("first-order-seed-0", "searching", 60, 100, latest={**LATEST, "epoch": 4})
    with LiveTable("demo", Console(file=io.StringIO(), force_terminal=False)) as table:
        for runs in ([SEARCHING, WAITING], [SEARCHING, WAITING], [later, WAITING]):
            table.show(runs)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == [SEARCHING.run, WAITING.run, SEARCHING.run]
    assert all("experiment=demo" in line for line in err.splitlines())


def test_a_terminal_shows_one_table_in_place() -> None:
    screen = io.StringIO()
    with LiveTable("demo", Console(file=screen, force_terminal=True, width=200)) as table:
        table.show([WAITING])
        table.show([SEARCHING])
    assert "93.1%" in screen.getvalue()
    assert "\x1b[1A" in screen.getvalue()  # the cursor went up: the table was drawn over


def test_the_sweep_as_a_whole_is_a_line_below_the_table_and_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    screen, ended = io.StringIO(), replace(SEARCHING, run="first-order-seed-3", state="finished", step=100)
    with LiveTable("demo", Console(file=screen, force_terminal=True, width=80)) as table:
        table.show([SEARCHING, ended])
    assert "1 of 2 runs have ended, 1 at work, about 30s left" in screen.getvalue()
    capsys.readouterr()
    with LiveTable("demo", Console(file=io.StringIO(), force_terminal=False)) as table:
        for runs in ([SEARCHING], [SEARCHING, ended], [SEARCHING, ended]):
            table.show(runs)
    lines = [line for line in capsys.readouterr().err.splitlines() if "have ended" in line]
    assert lines == ["1 of 2 runs have ended, 1 at work, about 30s left experiment=demo"]


def test_quiet_shows_warnings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    with LiveTable("demo", Console(file=screen, force_terminal=True, width=80), quiet=True) as table:
        table.show([replace(SEARCHING, latest={**LATEST, "warning": "only skips"}), WAITING])
    assert "first-order-seed-0: warning: only skips" in screen.getvalue()
    assert "searching" not in screen.getvalue()
    assert capsys.readouterr().err == ""


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveTable("demo", quiet=True) as table:
        table.show([SEARCHING])
    assert capsys.readouterr() == ("", "")


def test_the_table_has_a_row_for_each_run() -> None:
    assert len(status_table([SEARCHING, WAITING, TEXT], 80)[1]) == 3


@pytest.mark.parametrize("terminal", [False, True])
def test_a_collapse_is_shown_live_and_once(terminal: bool) -> None:
    screen = io.StringIO()
    warned = RunStatus("run-0", "searching", 40, 100, latest={**LATEST, "warning": "epoch 3: 8 of 8 are skip_connect"})
    with LiveTable("demo", Console(file=screen, force_terminal=terminal, width=200)) as table:
        table.show([SEARCHING])
        table.show([SEARCHING, warned])
        table.show([SEARCHING, warned])
    assert screen.getvalue().count("run-0: warning: epoch 3: 8 of 8 are skip_connect") == 1
    assert status_text([warned]).splitlines()[-1] == "run-0: warning: epoch 3: 8 of 8 are skip_connect"
