"""A test set of images stays closed until a training's last step: files that are no pictures prove it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ray_darts.config import TrainingConfig, load_training_config
from ray_darts.errors import DataError, TestSetClosed
from ray_darts.protocols.dataset import TrainingData
from ray_darts.protocols.method import Progress
from ray_darts.protocols.task import RunCoordinates, Verdict
from ray_darts.spaces.genotypes import published
from ray_darts.tasks.collectives import SingleRank
from ray_darts.training.loop import TrainingLoop
from tests.data.files import write_class_folders
from tests.data.held_out import GARBAGE, TEST, TRAIN
from tests.data.settings import CPU
from tests.search.searches import Remembering


def tiny_training(folder: Path, *overrides: str) -> TrainingConfig:
    settings = ("data.source=folder", f"data.path={folder}", "data.alpha_fraction=0.5", "training.batch_size=2")
    sizes = ("network.layers=3", "network.channels=2", "training.epochs=1", "training.drop_path=0")
    return load_training_config("digits", overrides=["data.test_fraction=0", *settings, *sizes, *overrides])


def garbage_test(folder: Path) -> Path:
    write_class_folders(folder / "train", TRAIN)
    for name in ("test/c0/x.png", "test/no class/x.png"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(GARBAGE)
    return folder


def streams(config: TrainingConfig) -> TrainingData:
    return config.streams(config.data.load(10**9), 0)


@pytest.mark.parametrize(
    ("step", "overrides", "message"),
    [
        (0, (), "until the training has ended: step 0 of 3"),
        (2, (), "until the training has ended: step 2 of 3"),
        (3, ("training.test=false",), r"training\.test is false"),
    ],
)
def test_the_test_set_stays_closed(tmp_path: Path, step: int, overrides: tuple[str, ...], message: str) -> None:
    data = streams(tiny_training(garbage_test(tmp_path), *overrides))
    with pytest.raises(TestSetClosed, match=message):
        data.open_test(Progress(step, 3, 0, 1))


def run(config: TrainingConfig) -> Verdict:
    genotype = published("DARTS_V2", "convolutional")
    coordinates = RunCoordinates(seed=0, genotype=genotype.to_data())
    return TrainingLoop(config, coordinates, streams(config), SingleRank(), CPU).run(Remembering())


def test_a_training_reads_no_test_file_before_its_end(tmp_path: Path) -> None:
    garbage_test(tmp_path)
    assert run(tiny_training(tmp_path, "training.test=false")).kind == "finished"
    with pytest.raises(DataError, match="no class of the training data: no class"):
        run(tiny_training(tmp_path))
    (tmp_path / "test" / "no class" / "x.png").unlink()
    (tmp_path / "test" / "no class").rmdir()
    with pytest.raises(DataError, match=r"test/c0/x\.png cannot be read as an image"):
        run(tiny_training(tmp_path))
    write_class_folders(tmp_path / "test", TEST)
    (tmp_path / "test" / "c0" / "x.png").unlink()
    answer: Any = run(tiny_training(tmp_path)).answer
    assert answer["test"]["samples"] == 7
    assert answer["metric"]["name"] == "test_accuracy"
