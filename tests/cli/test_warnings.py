"""A warning of the last epoch stands in every summary of a run, and the spread over seeds beside the runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_darts.config import load_config
from tests.api.finished import write_ended_runs
from tests.cli.running import Ran, ray_darts

TINY = ("space.channels=2", "space.nodes=2", "search.epochs=2", "data.fraction=0.2")
SETS = [word for override in TINY for word in ("--set", override)]
RUN = "first-order-seed-1"
WARNING = "4 of the 4 kept edges of the normal cell are skip_connect, since epoch 0"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Runs that ended; each warned in its last epoch."""
    config = load_config("digits", overrides=TINY)
    write_ended_runs(str(tmp_path), "done", config, ("first", 0), ("first", 1), ("second", 0), warning=WARNING)
    _search(str(tmp_path))
    return str(tmp_path)


def _search(store: str, *words: str) -> Ran:
    return ray_darts("search", "--name", "done", "--store", store, "--seeds", "2", "--orders", "first", *SETS, *words)


def test_the_result_of_a_search_has_the_warnings_of_its_runs_and_of_the_best(store: str) -> None:
    lines = _search(store).stdout.splitlines()
    assert f"{RUN}: warning: {WARNING}" in lines
    assert lines[lines.index(f"warning of the best run: {WARNING}") - 1].startswith(f"best: {RUN}, ")
    answer = json.loads(_search(store, "--json").stdout)
    assert answer["warnings"] == {"first-order-seed-0": WARNING, RUN: WARNING}
    assert answer["best"]["warning"] == WARNING


def test_status_best_and_trace_repeat_a_warning(store: str) -> None:
    status, trace, best = (ray_darts(command, "done", "--store", store) for command in ("status", "trace", "best"))
    assert f"{RUN}: warning: {WARNING}" in status.stdout.splitlines()
    assert f"{RUN}: warning: {WARNING}" in trace.stdout.splitlines()
    assert f"warning: {RUN}: {WARNING}" in best.stderr.splitlines()
    for command in ("status", "trace"):
        printed = json.loads(ray_darts(command, "done", "--store", store, "--json").stdout)
        runs = printed["runs"] if command == "status" else printed
        assert {run["warning"] for run in runs} == {WARNING}
    assert json.loads(ray_darts("best", "done", "--store", store, "--json").stdout)["warning"] == WARNING


def test_a_warning_that_its_record_denies_is_refused(store: str) -> None:
    assert ray_darts("best", "done", "--store", store, "--verify").code == 0
    file = Path(store) / "done" / "best.json"
    file.write_text(file.read_text().replace("since epoch 0", "since epoch 1"))
    assert ray_darts("best", "done", "--store", store, "--verify").code == 1


def test_a_best_that_warns_of_nothing_has_no_such_field(tmp_path: Path) -> None:
    write_ended_runs(str(tmp_path), "done", load_config("digits", overrides=TINY), ("first", 0), ("first", 1))
    answer = _search(str(tmp_path), "--json")
    assert json.loads(answer.stdout)["warnings"] == {}
    assert "warning" not in json.loads((tmp_path / "done" / "best.json").read_text())


def test_mean_and_deviation_over_seeds_are_printed_per_order(store: str) -> None:
    lines = _search(store).stdout.splitlines()
    wanted = "supernet_validation_accuracy 0.55 ± 0.071 (mean and deviation of 2 seeds)"
    assert [line for line in lines if "±" in line] == [f"first order: {wanted}"]
    spread = json.loads(_search(store, "--json").stdout)["orders"]["first"]
    assert (spread["metric"], spread["seeds"]) == ("supernet_validation_accuracy", 2)
    assert spread["mean"] == pytest.approx(0.55)
    assert spread["deviation"] == pytest.approx(0.1 / 2**0.5)
