"""CSV files, through the command: rows of every epoch and run; the same command again writes the same."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_darts.artifacts.open import open_store
from ray_darts.sync.csv_files import _safe
from tests.cli.running import ray_darts
from tests.report.page.experiments import (
    EXPERIMENT,
    advance,
    alphas_of,
    claimed,
    mixed_experiment,
    register,
    run_names,
    whole_run,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synced")
    mixed_experiment(open_store(str(folder)))
    return folder


def test_every_epoch_and_every_run_is_a_row(store: Path, tmp_path: Path) -> None:
    words = ("sync", EXPERIMENT, "--store", str(store), "--to", "csv", str(tmp_path / "a"), "--json")
    said = json.loads(ray_darts(*words).stdout)
    assert (said["runs"], said["epochs"]) == (6, 22)
    folder = tmp_path / "a" / EXPERIMENT
    with (folder / "epochs.csv").open() as file:
        epochs = list(csv.DictReader(file))
    assert len(epochs) == 22
    last = [row for row in epochs if row["run"] == "second-order-seed-3"][-1]
    assert (last["epoch"], last["step"], last["train_loss"]) == ("4", "500", "0.4")
    assert float(last["normal.entropy"]) > 0
    with (folder / "runs.csv").open() as file:
        runs = {row["run"]: row for row in csv.DictReader(file)}
    assert runs["second-order-seed-3"]["value"] == "0.503"
    assert runs["second-order-seed-3"]["config.search.epochs"] == "50"
    assert runs["second-order-seed-3"]["config.run.order"] == "second"
    assert runs["second-order-seed-5"]["state"] == "failed"
    assert runs["first-order-seed-4"]["state"] == "unfinished"
    assert json.loads(runs["second-order-seed-3"]["genotype"])["space"] == "convolutional"
    before = {file: file.read_bytes() for file in folder.iterdir()}
    assert ray_darts(*words).code == 0
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_following_waits_for_runs_and_writes_in_between(tmp_path: Path) -> None:
    opened, run, file = open_store(str(tmp_path / "store")), run_names(1)[0], tmp_path / "a" / EXPERIMENT / "epochs.csv"
    register(opened, [])

    def search() -> None:
        time.sleep(0.3)
        register(opened, [run])
        advance(claimed(opened, run), alphas_of(0, 30), 12, 6, 30)
        until(file.exists)
        whole_run(opened, run, 0, session="7" * 32)

    searching = threading.Thread(target=search)
    searching.start()
    words = ("sync", EXPERIMENT, "--store", str(tmp_path / "store"), "--to", "csv", str(tmp_path / "a"))
    ran = ray_darts(*words, "--follow", "--every", "1")
    searching.join()
    assert ran.code == 0, ran.stderr
    assert len(file.read_text().splitlines()) == 6


def until(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(0.05)


def test_no_text_is_computed_by_a_spreadsheet() -> None:
    assert [_safe(value) for value in ("=1+1", "@x", "-3", "plain", -3, None)] == [
        "'=1+1",
        "'@x",
        "'-3",
        "plain",
        -3,
        None,
    ]


@pytest.mark.parametrize(
    ("to", "phrase"),
    [(("nothing", "x"), "wanted tensorboard, mlflow, wandb, csv"), (("csv", ""), "where it lies is empty")],
)
def test_a_logger_that_there_is_not_is_a_message(store: Path, to: tuple[str, str], phrase: str) -> None:
    ran = ray_darts("sync", EXPERIMENT, "--store", str(store), "--to", *to)
    assert ran.code == 2
    assert phrase in ran.stderr
