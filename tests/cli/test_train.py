"""`ray-darts train` as a process: mistakes end it before anything is written; a finished experiment is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_darts.artifacts.local import LocalStore
from tests.cli.running import ray_darts
from tests.orchestration.tiny import search_here
from tests.orchestration.training_runs import assigned_runs, request_of
from tests.training.tiny import CELLS, TINY, tiny_config


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (("DARTS_V2", "--preset", "nosuch"), ["unknown preset 'nosuch'", "cifar100, digits"]),
        (("nosuch", "--preset", "digits"), ["'nosuch' is neither a file, nor a published cell"]),
        (("DARTS_V2", "--seeds", "0", "--set", "training.epochs=0"), ["seeds = 0", "training.epochs = 0"]),
        (("DARTS_V2", "--set", "training.auxiliary_weight=-1"), ["training.auxiliary_weight = -1"]),
        (("DARTS_V2", "--set", 'data={kind="text"}'), ["needs images; data.kind 'text' is text"]),
        (("DARTS_V2", "--max-parameters", "10"), ["36,586 parameters, at most 10 are allowed"]),
        (("DARTS_V2", "--seeds", "0", "--max-parameters", "-3"), ["seeds = 0", "max_parameters = -3: wanted"]),
    ],
)
def test_a_mistake_is_reported_before_anything_is_written(
    tmp_path: Path, words: tuple[str, ...], messages: list[str]
) -> None:
    ran = ray_darts("train", *words, "--store", str(tmp_path / "store"))
    assert ran.code == 2, ran.stderr
    assert all(message in ran.stderr for message in messages), ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "store").exists()


def test_a_finished_experiment_is_printed_and_nothing_is_started(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    for assignment in assigned_runs(store, request_of(store, tiny_config(), seeds=(0, 1), experiment="mine")):
        assert search_here(assignment, store).kind == "finished"
    cell = tmp_path / "cell.json"
    cell.write_text(CELLS.to_json())
    overrides = [word for override in TINY for word in ("--set", override)]
    words = ("train", str(cell), "--preset", "digits", "--name", "mine", "--seeds", "2", "--store", store.uri)
    ran = ray_darts(*words, *overrides, "--json")
    assert ran.code == 0, ran.stderr
    printed = json.loads(ran.stdout)
    (result,) = printed["results"]["genotypes"]
    assert result["genotype"] == CELLS.to_data()
    assert (result["finished"], len(result["runs"])) == (2, 2)
    assert json.loads((tmp_path / "store" / "mine" / "result.json").read_text()) == printed["results"]
    text = ray_darts(*words, *overrides).stdout
    assert "validation_accuracy (higher is better" in text
    assert f"all results: {store.uri}/mine/" in text
    compared = ray_darts("compare", "mine", "mine", "--store", store.uri)
    assert compared.code in (0, 2)
    assert "Traceback" not in compared.stderr


def test_figures_are_printed_by_show_too() -> None:
    ran = ray_darts("show", "DARTS_V2", "--space", "convolutional", "--figures", "cifar10", "--json")
    assert ran.code == 0, ran.stderr
    assert json.loads(ran.stdout)["network"]["figures"]["parameters"] == 3_349_342
