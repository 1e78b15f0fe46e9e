"""`ray-darts export` over trainings that have finished in a folder: images and text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from pydantic import JsonValue

import ray_darts as package
from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.experiment import data_summary, register_experiment, register_run
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.run_log import find_tip
from ray_darts.artifacts.trained import read_trained
from ray_darts.artifacts.writer import claim_run
from ray_darts.config import TrainingConfig, load_training_config
from ray_darts.deployment import ExportedModel, export_model
from ray_darts.genotype.layout import SpaceLayout
from ray_darts.orchestration.assignment import Assignment, new_session
from ray_darts.orchestration.data_access import open_data
from ray_darts.training.deploy import ABOUT
from tests.artifacts.runs import DIGEST, ENVIRONMENT, owner
from tests.artifacts.runs import register as register_search
from tests.cli.running import Ran, ray_darts
from tests.orchestration.tiny import execute_here
from tests.training.deployed import genotype_of, training_config

IMAGES, TEXT, ELSEWHERE, SEARCH = "pictures", "words", "elsewhere", "tiny"


def finish_training(store: LocalStore, experiment: str, config: TrainingConfig, *seeds: int) -> None:
    """Train the cell with each seed, from the claim to the publication."""
    genotype: Any = genotype_of(config.network.kind).to_data()
    data = open_data(config, 0)
    register_experiment(
        store,
        experiment,
        identity=config.identity(),
        config_digest=config.digest(),
        layout=config.layout(),
        data_digests=data.digests,
        code="test",
        data=data_summary(data.facts),
    )
    for seed in seeds:
        run = f"seed-{seed}"
        register_run(store, experiment, run, seed, None, genotype=genotype)
        plain = {
            "config": config.model_dump(mode="json"),
            "experiment": experiment,
            "task": "training",
            "run": run,
            "coordinates": {"seed": seed, "genotype": genotype},
            "store_uri": store.uri,
            "session": new_session().model_dump(mode="json"),
            "data_digests": data.digests,
        }
        outcome = execute_here(Assignment.from_plain(plain), store)
        assert outcome is not None
        assert outcome.kind == "finished", outcome


def register_training(store: LocalStore, experiment: str, genotype: dict[str, JsonValue]) -> None:
    """An experiment of trainings with one run, of a space that is not installed here."""
    space = str(genotype["space"])
    network: dict[str, JsonValue] = {"kind": space}
    layout = SpaceLayout(space, (), "", frozenset())
    register_experiment(
        store,
        experiment,
        identity={"network": network},
        config_digest=DIGEST,
        layout=layout,
        data_digests={},
        code="test",
    )
    register_run(store, experiment, "seed-0", 0, None, genotype=genotype)


def finish_with(store: LocalStore, experiment: str, answer: dict[str, JsonValue]) -> None:
    """End the run with this answer and one weight."""
    writer = claim_run(store, experiment, "seed-0", owner("a"), DIGEST, ENVIRONMENT, task="training")
    writer.advance(1, {}, np.zeros(1, np.int32), [], Checkpoint({"weights/w": np.zeros(1, np.float32)}, {}))
    writer.finish(answer, ("weights_last.safetensors",))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """Two trainings on images, one on text, and an experiment of a search."""
    folder = tmp_path_factory.mktemp("trained")
    store = LocalStore(folder / "store")
    finish_training(store, IMAGES, training_config("nasbench201"), 0, 1)
    for name, lines in (("train", 60), ("valid", 12), ("test", 12)):
        (folder / f"{name}.txt").write_text("one two three four five\nsix one two\n" * lines)
    settings: dict[str, Any] = {
        "network": {"kind": "recurrent", "size": 4},
        "data": {"kind": "text", "source": "files", "path": str(folder), "bptt": 6, "evaluation_batch_size": 2},
        "training": {"epochs": 1, "batch_size": 4},
    }
    finish_training(store, TEXT, load_training_config(settings=settings), 0)
    register_search(store)
    return store


@pytest.fixture(scope="module")
def exported(store: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    """The best of the trainings on images."""
    file = tmp_path_factory.mktemp("exported") / "model.pt2"
    return ray_darts("export", IMAGES, "--store", store.uri, "--output", str(file), "--json"), file


def refused(store: LocalStore, tmp_path: Path, *words: str, output: str = "model.pt2") -> str:
    """What the command says on one line; no file is left."""
    ran = ray_darts("export", *words, "--store", store.uri, "--output", str(tmp_path / output))
    assert ran.code != 0
    assert ran.stdout == ""
    assert list(tmp_path.iterdir()) == []
    assert ran.stderr.count("\n") == 1
    return ran.stderr


def values(store: LocalStore) -> dict[str, float]:
    """{run: its metric}"""
    root = Path(store.uri) / IMAGES / "runs"
    return {
        run: json.loads((root / run / "result.json").read_text())["metric"]["value"] for run in ("seed-0", "seed-1")
    }


def test_the_best_run_is_exported_with_the_weights_that_it_published(
    store: LocalStore, exported: tuple[Ran, Path]
) -> None:
    ran, file = exported
    assert ran.code == 0, ran.stderr
    assert f"model in {file}" in ran.stderr
    texts = {ABOUT: ""}
    program = torch.export.load(file, extra_files=texts)
    about = json.loads(texts[ABOUT])
    assert about == json.loads(ran.stdout)
    found = values(store)
    assert about["run"] == max(sorted(found), key=lambda run: found[run])
    keys = RunKeys(IMAGES, about["run"])
    published = safetensors.numpy.load(store.get(keys.document("weights_best.safetensors")).data)
    tensors = {name.removeprefix("network."): t for name, t in program.state_dict.items() if "network." in name}
    assert tensors.keys() == published.keys()
    assert all(np.array_equal(tensor.numpy(), published[name]) for name, tensor in tensors.items())
    with torch.no_grad():
        assert program.module()(torch.rand(1, 1, 8, 8)).shape == (1, 10)


def test_the_file_says_where_the_model_comes_from(store: LocalStore, exported: tuple[Ran, Path]) -> None:
    about = json.loads(exported[0].stdout)
    tip = find_tip(store, RunKeys(IMAGES, about["run"]))
    assert tip is not None
    answer = tip.record.answer
    assert answer is not None
    assert about["record_sha256"] == tip.digest
    assert (about["weights"], about["epoch"], about["experiment"]) == ("best", 0, IMAGES)
    for name in ("genotype", "parameters", "test"):
        assert about[name] == answer[name]
    assert about["ray_darts"] == package.__version__
    assert about["classes"] == [str(digit) for digit in range(10)]
    assert (about["channels"], about["image_size"]) == (1, 8)
    assert about["data_digests"]["data"]
    assert about["multiply_adds"] > about["parameters"]


def test_another_run_and_other_weights_are_read_on_request(store: LocalStore) -> None:
    found = values(store)
    worst = min(found, key=lambda run: found[run])
    trained = read_trained(store, IMAGES, worst, "last")
    assert (trained.run.run, trained.which, trained.epoch) == (worst, "last", 0)
    other = read_trained(store, IMAGES, "seed-1" if worst == "seed-0" else "seed-0", "last")
    assert trained.weights_sha256 != other.weights_sha256


def test_weights_that_were_not_published_yet_are_made_from_the_log(store: LocalStore, tmp_path: Path) -> None:
    copy = LocalStore(Path(shutil.copytree(store.uri, tmp_path / "store")))
    (Path(copy.uri) / IMAGES / "runs" / "seed-0" / "weights_last.safetensors").unlink()
    wanted = read_trained(store, IMAGES, "seed-0", "last")
    assert read_trained(copy, IMAGES, "seed-0", "last").weights_sha256 == wanted.weights_sha256


def test_a_text_model_is_a_step_with_its_vocabulary(store: LocalStore, tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    model = export_model(store.uri, TEXT, file)
    assert isinstance(model, ExportedModel)
    assert model.about["vocabulary"] == ["<unk>", "<eos>", "one", "two", "five", "four", "six", "three"]
    program = torch.export.load(file).module()
    with torch.no_grad():
        scores, state = program(torch.tensor([2, 3, 4]), torch.zeros(3, 4))
    assert (scores.shape, state.shape) == ((3, 8), (3, 4))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((SEARCH,), "'tiny' is an experiment of a search, and export takes a training: ray-darts train tiny …"),
        (("nothing",), "no experiment 'nothing'"),
        ((IMAGES, "--run", "seed-7"), "no run 'seed-7' in 'pictures'; there are seed-0, seed-1"),
        ((IMAGES, "--weights", "first"), "weights 'first': wanted last or best"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(
    store: LocalStore, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    assert message in refused(store, tmp_path, *words)


def test_another_suffix_is_refused_with_the_known_ones(store: LocalStore, tmp_path: Path) -> None:
    said = refused(store, tmp_path, IMAGES, output="model.pth")
    assert "the known formats are .pt2 and .onnx" in said


def test_onnx_names_the_package_that_it_needs(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_darts.deployment._ONNX_PACKAGE", "a_package_that_is_not_installed")
    said = refused(store, tmp_path, IMAGES, output="model.onnx")
    assert "needs the package a_package_that_is_not_installed" in said


def test_a_run_that_has_not_finished_and_a_space_that_is_not_installed(store: LocalStore, tmp_path: Path) -> None:
    here = LocalStore(tmp_path / "store")
    answer = read_trained(store, IMAGES, "seed-0").answer.model_dump(mode="json")
    genotype = {**answer["genotype"], "space": "unknown"}
    register_training(here, ELSEWHERE, genotype)
    output = tmp_path / "output"
    output.mkdir()
    assert "no run of 'elsewhere' has finished" in refused(here, output, ELSEWHERE)
    assert "seed-0 of 'elsewhere' has not finished" in refused(here, output, ELSEWHERE, "--run", "seed-0")
    finish_with(here, ELSEWHERE, {**answer, "genotype": genotype, "weights": "last"})
    assert "the space 'unknown', which is not installed here" in refused(here, output, ELSEWHERE)
    assert "kept no best weights" in refused(here, output, ELSEWHERE, "--weights", "best")


def test_a_file_that_cannot_be_written_leaves_nothing(store: LocalStore, tmp_path: Path) -> None:
    ran = ray_darts("export", TEXT, "--store", store.uri, "--output", str(tmp_path / "absent" / "model.pt2"))
    assert (ran.code, ran.stdout) == (2, "")
    assert "cannot write" in ran.stderr
    assert list(tmp_path.iterdir()) == []
