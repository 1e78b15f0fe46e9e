"""search where all runs have ended already, and the dry run."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from ray_darts.artifacts.records import Metric
from ray_darts.artifacts.status import RunStatus
from ray_darts.cli.sweep import result_text
from ray_darts.config import SearchConfig, load_config
from ray_darts.orchestration.assignment import RunOutcome
from ray_darts.orchestration.plan import PlannedRun
from ray_darts.orchestration.requests import SearchRequest
from ray_darts.orchestration.selection import SelectionResult
from ray_darts.orchestration.sweep import Observer, SweepResult
from ray_darts.report.cost import PROCESS_BYTES
from ray_darts.searches import SearchResult
from tests.api.finished import write_ended_runs
from tests.cli.running import Ran, ray_darts
from tests.data.files import png, random_pixels, write_class_folders

TINY = ("space.channels=2", "space.nodes=2", "search.epochs=2", "data.fraction=0.2")
SETS = [word for override in TINY for word in ("--set", override)]


def _config() -> SearchConfig:
    return load_config("digits", overrides=TINY)


def _searched(folder: Path, *runs: tuple[Literal["first", "second"], int], fail: str | None = None) -> None:
    write_ended_runs(str(folder), "done", _config(), *runs, fail=fail)


def _search(folder: Path, *words: str) -> Ran:
    return ray_darts(
        "search", "--name", "done", "--store", str(folder), "--seeds", "2", "--orders", "first", *SETS, *words
    )


def test_a_search_that_is_done_publishes_what_is_missing_prints_the_result_and_exits_0(tmp_path: Path) -> None:
    _searched(tmp_path, ("first", 0), ("first", 1))
    ran = _search(tmp_path)
    assert ran.code == 0
    assert "best: first-order-seed-1, supernet_validation_accuracy 0.6 (interim ranking)" in ran.stdout
    assert "Genotype(normal=[" in ran.stdout
    assert (tmp_path / "done" / "best.json").exists()
    again = _search(tmp_path, "--json")
    answer = json.loads(again.stdout)
    assert answer["exit_code"] == 0
    assert answer["outcomes"]["first-order-seed-0"]["kind"] == "finished"
    assert answer["best"]["run"] == "first-order-seed-1"


def test_what_ray_prints_is_not_in_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(request: SearchRequest, observer: Observer) -> SweepResult:
        print("(raylet) WARNING: many workers have been started")
        observer([])
        return SweepResult({"first-order-seed-0": RunOutcome("interrupted", step=4)}, None)

    monkeypatch.setattr("ray_darts.orchestration.sweep.run_sweep", noisy)
    ran = _search(tmp_path, "--json")
    assert json.loads(ran.stdout)["exit_code"] == ran.code == 130
    assert "(raylet) WARNING" in ran.stderr
    assert ran.stderr.endswith("everything committed is safe: the same command continues\n")


def test_each_method_and_order_has_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def finished(request: SearchRequest, observer: Observer) -> SweepResult:
        metrics = (Metric(name="accuracy", value=value, direction="max") for value in (0.1, 0.3, 0.5, 0.7))
        runs = [
            PlannedRun(run, RunStatus(run.run, "finished", metric=metric))
            for run, metric in zip(request.runs, metrics, strict=True)
        ]
        return SweepResult({}, None, tuple(runs))

    monkeypatch.setattr("ray_darts.orchestration.sweep.run_sweep", finished)
    ran = _search(tmp_path, "--methods", "random,darts")
    assert ran.stderr.startswith(f"experiment done in {tmp_path}: 2 seeds, random, first order\n")
    assert [line.partition(" ±")[0] for line in ran.stdout.splitlines()[:2]] == [
        "random: accuracy 0.2",
        "first order: accuracy 0.6",
    ]
    orders = json.loads(_search(tmp_path, "--methods", "random,darts", "--json").stdout)["orders"]
    assert {name: round(spread["mean"], 9) for name, spread in orders.items()} == {"random": 0.2, "first": 0.6}


def test_a_run_that_failed_for_good_is_not_tried_again_and_exits_1(tmp_path: Path) -> None:
    _searched(tmp_path, ("first", 0), ("first", 1), fail="first-order-seed-1")
    ran = _search(tmp_path)
    assert ran.code == 1
    assert "the training loss of rank 0 is not finite in step 1 (--retry-failed tries again)" in ran.stdout
    assert "best: first-order-seed-0" in ran.stdout
    assert "not every run has finished" in ran.stderr


def test_another_identity_under_the_same_name_is_refused_with_the_fields(tmp_path: Path) -> None:
    _searched(tmp_path, ("first", 0))
    ran = _search(tmp_path, "--set", "search.epochs=3")
    assert (ran.code, ran.stdout) == (2, "")
    assert "search.epochs: 2 there, 3 asked" in ran.stderr
    assert "--name" in ran.stderr


def test_a_dry_run_counts_what_is_left_and_writes_nothing(tmp_path: Path) -> None:
    _searched(tmp_path, ("first", 0))
    before = sorted(tmp_path.rglob("*"))
    ran = _search(tmp_path, "--dry-run", "--json")
    assert ran.code == 0
    estimate = json.loads(ran.stdout)
    assert (estimate["runs"], estimate["runs_ended"]) == (1, 1)
    assert estimate["alphas"] == _config().space.layout().num_alphas
    assert estimate["steps_per_run"] == 2 * ((359 // 2) // 64)
    assert estimate["orders"]["first"]["runs"] == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_counts_no_steps_of_draws(tmp_path: Path) -> None:
    ran = ray_darts("search", "--methods", "random", "--store", str(tmp_path), *SETS, "--dry-run", "--json")
    estimate = json.loads(ran.stdout)
    assert (estimate["runs"], estimate["orders"], estimate["drawn"]) == (4, {}, {"random": 4})
    assert "counting" not in ran.stderr
    both = json.loads(_search(tmp_path, "--methods", "darts,random", "--dry-run", "--json").stdout)
    assert (both["runs"], both["orders"]["first"]["runs"], both["drawn"]) == (4, 2, {"random": 2})


def test_a_dry_run_says_that_it_does_not_count_the_selection(tmp_path: Path) -> None:
    text = _search(tmp_path, "--select", "--dry-run").stdout
    assert "selection     not counted: at most 2 short trainings of 8 epochs" in text
    assert json.loads(_search(tmp_path, "--select", "--dry-run", "--json").stdout)["selection"] == {
        "trainings_at_most": 2,
        "epochs": 8,
    }
    assert "selection" not in _search(tmp_path, "--dry-run").stdout


def test_without_a_cell_within_the_limits_the_result_says_so() -> None:
    selection = SelectionResult("done", "selected_validation_accuracy", "max", (), 0, {}, None)
    outcomes = {"first-order-seed-0": RunOutcome("finished", step=4)}
    text = result_text(SearchResult("done", "x", outcomes, None, 0, selection=selection))
    assert "no best genotype: no cell that may be selected has a score" in text


def test_a_dry_run_subtracts_the_steps_of_interrupted_runs(tmp_path: Path) -> None:
    runs: tuple[tuple[Literal["first"], int], ...] = (("first", 0), ("first", 1))
    write_ended_runs(str(tmp_path), "done", _config(), *runs, unfinished="first-order-seed-1")
    estimate = json.loads(_search(tmp_path, "--dry-run", "--json").stdout)
    assert (estimate["runs"], estimate["runs_ended"], estimate["steps_done"]) == (1, 1, 1)
    first = estimate["orders"]["first"]
    assert estimate["steps_per_run"] == 4
    assert first["left_s"] < first["run_s"]
    assert "1 of 4 steps are done already" in _search(tmp_path, "--dry-run").stdout


def test_a_dry_run_of_a_hundred_thousand_epochs_is_as_fast_as_one_of_two(tmp_path: Path) -> None:
    ran = ray_darts("search", "--dry-run", "--json", "--store", str(tmp_path), *SETS, "--set", "search.epochs=100000")
    assert json.loads(ran.stdout)["steps_per_run"] == 10**5 * ((359 // 2) // 64)


def _no_ray(**settings: object) -> None:
    raise AssertionError("Ray was started")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", "64"), "the cluster can never hold"),
        pytest.param(
            ("--set", "operation.device=cuda"),
            "operation.device is 'cuda', but the cluster has",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is asked for"),
        ),
        (
            ("--set", "operation.cuda_graph=on", "--set", "operation.device=cpu"),
            "operation.cuda_graph=on: the workers compute on CPUs",
        ),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_this_machine_can_never_hold_is_refused_before_ray_starts(
    dry_run: bool, words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.init", _no_ray)
    weightless = ("--set", 'space.operations=["none","skip_connect","max_pool_3x3"]')
    ran = _search(tmp_path, *(["--dry-run"] if dry_run else []), *words, *weightless)
    assert (ran.code, ran.stdout) == (2, "")
    assert message in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--dry-run",), ("--workers", "64")])
def test_a_space_without_weights_is_warned_of_before_the_search(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.init", _no_ray)
    warning = "warning: no operation of the space has weights (none, skip_connect, max_pool_3x3)"
    few = ("--set", 'space.operations=["none","skip_connect","max_pool_3x3"]')
    assert warning in _search(tmp_path, *words, *few).stderr
    assert "warning" not in _search(tmp_path, *words).stderr


FOLDER = ("data.test_fraction=0", "data.source=folder")


def test_a_dry_run_finds_data_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_class_folders(tmp_path / "pictures", random_pixels(80))
    sets = (
        "data.test_fraction=0",
        "data.source=folder",
        "data.path=~/pictures",
        "data.fraction=1",
        "search.batch_size=8",
    )
    words = [word for override in sets for word in ("--set", override)]
    ran = ray_darts("search", "--dry-run", "--json", "--store", str(tmp_path / "store"), *SETS, *words)
    assert json.loads(ran.stdout)["steps_per_run"] == 2 * (40 // 8)


def test_a_dry_run_says_what_it_takes_of_the_data_and_counts_its_memory(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "data" / "Train", random_pixels(80))
    write_class_folders(tmp_path / "data" / "Test", random_pixels(8))
    sets = (
        "data.test_fraction=0",
        "data.source=folder",
        f"data.path={tmp_path}/data",
        "data.fraction=1",
        "search.batch_size=8",
    )
    words = [word for override in sets for word in ("--set", override)]
    memory = []
    for _ in range(2):
        more = ("--set", "data.image_size=8", "--orders", "first", "--json")
        ran = ray_darts("search", "--dry-run", "--store", str(tmp_path / "store"), *SETS, *words, *more)
        memory.append(json.loads(ran.stdout)["orders"]["first"]["worker_memory_bytes"])
        (tmp_path / "data" / "Train" / "c0" / "0000.png").write_bytes(png(np.zeros((3000, 3000, 3), np.uint8)))
    assert "data: folder Train taken as the training data\ndata: folders left out (1): Test (test)\n" in ran.stderr
    assert "data: 2 classes, 40 + 40 samples (weight half + alpha half): c0 20 + 20, c1 20 + 20\n" in ran.stderr
    assert memory[0] < PROCESS_BYTES + 20_000_000
    assert 0 <= memory[1] - PROCESS_BYTES - 3000 * 3000 * 4 < 1_000_000, "decoding one original of 3,000 pixels"


def test_a_dry_run_uses_the_cluster_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    ran = _search(tmp_path, "--dry-run")
    assert ran.code == 2
    assert "no Ray cluster answers at 127.0.0.1:1" in ran.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", "64"), "the cluster can never hold"),
        (("--set", "data.fraction=0.05"), "fewer than search.batch_size"),
        (("--workers", "1:2"), "search.batch_norm=sync, or --allow-world-size-change"),
        (("--store", "gs://bucket"), "store 'gs://bucket': wanted s3://bucket/prefix or a folder"),
        (("--store", __file__), "is a file; wanted a folder"),
    ],
)
def test_a_dry_run_refuses_what_the_search_would(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    ran = ray_darts("search", "--dry-run", "--store", str(tmp_path), *SETS, *words)
    assert (ran.code, ran.stdout) == (2, "")
    assert message in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--workers", "--max-concurrent", "--max-hours", "--max-worker-hours"])
def test_mistakes_of_flags_are_the_configs_and_reported_with_the_others(flag: str) -> None:
    refused = ray_darts("search", flag, "0", "--seeds", "0")
    assert refused.code == 2
    assert flag.removeprefix("--").replace("-", "_") in refused.stderr
    assert "seeds = 0" in refused.stderr


def test_a_dry_run_reads_no_data_where_its_size_is_known(tmp_path: Path) -> None:
    words = ["--preset", "cifar10", "--set", "space.channels=2", "--set", "space.nodes=1", "--orders", "first"]
    ran = ray_darts("search", "--dry-run", "--json", "--store", str(tmp_path), *words, "--set", "data.path=/nowhere")
    assert ran.code == 0, ran.stderr
    assert json.loads(ran.stdout)["steps_per_run"] == 50 * (25_000 // 64)


def test_the_plugins_of_a_config_file_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('plugins = ["plugin_that_is_not_there"]\n')
    ran = ray_darts("search", "--config", "mine.toml", "--dry-run")
    assert ran.code == 2
    assert "the plugin 'plugin_that_is_not_there' is not installed here" in ran.stderr
