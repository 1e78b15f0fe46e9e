"""The summary and the options of `status`, over a small real experiment in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from tests.artifacts.runs import EXPERIMENT, advance, claimed, register, whole_run
from tests.cli.running import ray_darts

GOOD, POOR, NEAR, FAR, FAILED, IDLE = (f"second-order-seed-{seed}" for seed in range(6))
ALL = [GOOD, POOR, NEAR, FAR, FAILED, IDLE]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("status"))
    store = open_store(folder)
    register(store, *((run, seed) for seed, run in enumerate(ALL)))
    for run, value in ((GOOD, 0.9), (POOR, 0.1)):
        whole_run(store, run, value=value)
        publish_run(store, EXPERIMENT, run)
    advance(claimed(store, run=NEAR), 8)
    advance(claimed(store, run=FAR), 2)
    claimed(store, run=FAILED).fail("non_finite", "loss is NaN")
    return folder


def shown(store: str, *words: str) -> list[str]:
    ran = ray_darts("status", EXPERIMENT, "--store", store, "--json", *words)
    assert ran.code == 0, ran.stderr
    return [run["run"] for run in json.loads(ran.stdout)["runs"]]


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ((), ALL),
        (("--state", "searching"), [NEAR, FAR]),
        (("--state", "failed,searching", "--sort", "-step"), [NEAR, FAR, FAILED]),
        (("--state", "failed, searching", "--sort", "step", "--limit", "2"), [FAILED, FAR]),
        (("--sort", "-metric"), [GOOD, POOR, NEAR, FAR, FAILED, IDLE]),
        (("--sort", "metric"), [POOR, GOOD, NEAR, FAR, FAILED, IDLE]),
        (("--sort", "-epoch", "--limit", "3"), [GOOD, POOR, NEAR]),
        (("--sort", "state"), [FAILED, NEAR, FAR, GOOD, POOR, IDLE]),
        (("--sort", "-run", "--limit", "1"), [IDLE]),
        (("--limit", "0"), []),
        (("--limit", "99"), ALL),
    ],
)
def test_runs_are_filtered_then_sorted_then_cut(store: str, words: tuple[str, ...], runs: list[str]) -> None:
    assert shown(store, *words) == runs


@pytest.mark.parametrize("words", [(), ("--state", "failed"), ("--limit", "0")])
def test_the_summary_is_first_and_of_all_runs(store: str, words: tuple[str, ...]) -> None:
    ran = ray_darts("status", EXPERIMENT, "--store", store, *words)
    first, second = ran.stdout.splitlines()[:2]
    counts = "1 failed, 2 searching, 2 finished, 1 waiting"
    assert first == f"6 runs: {counts}; 3 of 6 runs have ended, 2 at work"
    assert second == f"best so far: {GOOD}, supernet_validation_accuracy 0.9 (interim ranking)"
    summary = json.loads(ray_darts("status", EXPERIMENT, "--store", store, "--json", *words).stdout)["summary"]
    assert summary["states"] == {"failed": 1, "searching": 2, "finished": 2, "waiting": 1}
    assert (summary["runs"], summary["ended"], summary["at_work"], summary["workers"]) == (6, 3, 2, 2)
    assert summary["best"]["run"] == GOOD
    assert summary["best"]["metric"]["value"] == 0.9


def test_a_choice_says_how_many_of_the_runs_it_shows(store: str) -> None:
    lines = ray_darts("status", EXPERIMENT, "--store", store, "--state", "searching").stdout.splitlines()
    assert lines[2:4] == ["shown: 2 of 6 runs", ""]
    assert [line.split()[0] for line in lines[6:]] == [NEAR, FAR]
    assert ray_darts("status", EXPERIMENT, "--store", store, "--limit", "0").stdout.splitlines()[2:] == [
        "shown: 0 of 6 runs"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--state", "lost"), "'lost' is no state; states are claimed, failed, finished, searching, training, waiting"),
        (("--state", ""), "'' is no state"),
        (("--sort", "size"), "--sort 'size': wanted run, state, step, epoch, loss, metric, age, left, claims"),
        (("--sort", "--step"), "--sort '--step'"),
        (("--limit", "-1"), "--limit"),
    ],
)
def test_an_unknown_state_or_order_is_a_mistake_of_usage(store: str, words: tuple[str, ...], message: str) -> None:
    ran = ray_darts("status", EXPERIMENT, "--store", store, *words)
    assert (ran.code, ran.stdout) == (2, "")
    assert message in ran.stderr


def test_a_watch_shows_the_chosen_runs_until_all_have_ended(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    register(store, (GOOD, 0), (FAILED, 1))
    whole_run(store, GOOD)
    claimed(store, run=FAILED).fail("non_finite", "loss is NaN")
    words = ("status", EXPERIMENT, "--store", str(tmp_path), "--watch", "--state", "failed")
    printed = json.loads(ray_darts(*words, "--json").stdout)
    assert [run["run"] for run in printed["runs"]] == [FAILED]
    assert printed["summary"]["runs"] == 2
    lines = [line for line in ray_darts(*words).stderr.splitlines() if EXPERIMENT in line]
    assert [line.partition(" experiment=")[0] for line in lines] == [
        "2 of 2 runs have ended",
        f"{FAILED}: failed step 0",
    ]


def test_an_experiment_without_a_finished_run_has_no_best(tmp_path: Path) -> None:
    register(open_store(str(tmp_path)))
    ran = ray_darts("status", EXPERIMENT, "--store", str(tmp_path))
    assert ran.stdout.splitlines()[0] == "0 of 1 runs have ended"
    assert "best" not in ran.stdout
    assert json.loads(ray_darts("status", EXPERIMENT, "--store", str(tmp_path), "--json").stdout)["summary"] == {
        "runs": 1,
        "states": {"waiting": 1},
        "ended": 0,
        "at_work": 0,
        "workers": 0,
        "seconds_left": None,
        "worker_hours": 0.0,
        "cost": 0.0,
        "preemptions": 0,
        "failures": 0,
        "best": None,
    }
