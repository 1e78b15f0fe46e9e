"""Small real trainings for tests: digits, three layers, a cell of two nodes; and a small text."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ray_darts.config import TrainingConfig, load_training_config
from ray_darts.data.open import load_data
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.protocols.dataset import TrainableData, TrainingData
from ray_darts.protocols.task import RunCoordinates
from ray_darts.tasks.collectives import Collectives, SingleRank
from ray_darts.training.loop import TrainingLoop

CPU = torch.device("cpu")

# digits in float64 with batches of 13, which no two or three ranks share evenly; three epochs of four steps
TINY = (
    "network.layers=3",
    "network.channels=4",
    "data.test_fraction=0",
    "data.fraction=0.05",
    "data.alpha_fraction=0.3",
    "training.batch_size=13",
    "training.epochs=3",
    "training.drop_path=0.5",
    "training.precision=float64",
    "training.test=false",
    "operation.agree_every_steps=2",
)


def _cell(name: str, *nodes: tuple[tuple[str, int], tuple[str, int]]) -> CellGenotype:
    return CellGenotype(name, 2, tuple(tuple(Connection(*pair) for pair in node) for node in nodes), (2, 3))


CELLS = Genotype(
    "convolutional",
    (
        _cell("normal", (("dil_conv_3x3", 0), ("skip_connect", 1)), (("max_pool_3x3", 0), ("dil_conv_3x3", 2))),
        _cell("reduction", (("skip_connect", 0), ("avg_pool_3x3", 1)), (("dil_conv_3x3", 1), ("skip_connect", 2))),
    ),
)
"""Every kind of operation that counts: with weights, a pool, an identity, a factorised reduce."""


def tiny_config(*overrides: str) -> TrainingConfig:
    """The preset `digits` made as small as TINY says."""
    return load_training_config("digits", overrides=(*TINY, *overrides))


@cache
def _loaded(config: TrainingConfig) -> TrainableData:
    loaded = load_data(config)
    assert isinstance(loaded, TrainableData)
    return loaded


def tiny_data(config: TrainingConfig, seed: int = 0) -> TrainingData:
    """The streams of one seed; the images are read once per process and config."""
    return _loaded(config).training_streams(config.training, seed)


def tiny_loop(
    config: TrainingConfig,
    collectives: Collectives | None = None,
    seed: int = 0,
    genotype: Genotype = CELLS,
    data: TrainingData | None = None,
) -> TrainingLoop:
    """A training on the CPU."""
    coordinates = RunCoordinates.model_validate({"seed": seed, "genotype": genotype.to_data()})
    return TrainingLoop(config, coordinates, data or tiny_data(config, seed), collectives or SingleRank(), CPU)


def weights_of(loop: TrainingLoop) -> NDArray[np.float64]:
    """The flat weights and running statistics, copied."""
    both = torch.cat([loop.training.weights.vector, loop.training.statistics.vector])
    copied: NDArray[np.float64] = both.detach().numpy().copy()
    return copied


WORDS = [f"w{number}" for number in range(30)]


def text_config(folder: Path, *overrides: str) -> TrainingConfig:
    """A small language model on random words of a fixed seed, in `folder`."""
    draws = np.random.default_rng(0)
    for name, length in (("train", 900), ("valid", 300), ("test", 300)):
        words = draws.choice(WORDS, length)
        lines = "\n".join(" ".join(words[start : start + 12]) for start in range(0, length, 12))
        (folder / f"{name}.txt").write_text(lines + "\n")
    settings = {
        "network": {"kind": "recurrent", "size": 6},
        "data": {"kind": "text", "source": "files", "path": str(folder), "bptt": 6, "evaluation_batch_size": 4},
        "weights": {"learning_rate": 1.0, "schedule": "constant", "momentum": 0.0, "weight_decay": 1e-6, "clip": 0.25},
        "training": {"epochs": 3, "batch_size": 13, "precision": "float64", "test": False},
        "operation": {"agree_every_steps": 3},
    }
    return load_training_config(settings=settings, overrides=overrides)
