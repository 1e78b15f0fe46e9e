"""A training with recomputed cells moves as it does without, and keeps fewer activations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from ray_darts.config import TrainingConfig, load_config
from ray_darts.data.open import open_data
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.protocols import registry
from ray_darts.protocols.dataset import DataFacts, TrainingData
from ray_darts.protocols.registry import register
from ray_darts.spaces.batch_norm import synchronise
from ray_darts.spaces.genotypes import published, read_genotype
from ray_darts.tasks.batch_norm import moments_reducer
from ray_darts.tasks.collectives import SingleRank
from ray_darts.training.figures import network_figures
from ray_darts.training.loop import TrainingLoop
from tests.search.searches import Remembering
from tests.spaces.test_kernel import needs_compiler
from tests.training.deployed import NASBENCH201_CELL, training_config
from tests.training.tiny import CELLS, text_config, tiny_config, tiny_loop

CHECKPOINT = "operation.checkpoint_cells=true"
IMAGES = {
    "plain": (CELLS, ()),
    "micro-batches": (CELLS, ("training.accumulate=2",)),
    "bfloat16": (CELLS, ("training.precision=bfloat16",)),
    "compiled kernel": (CELLS, ("operation.kernel=compiled", "network.channels=8")),
    "auxiliary head": (CELLS, ("training.auxiliary_weight=0.4", "data.image_size=32")),
}


@pytest.fixture(autouse=True)
def _forget_operations() -> Iterator[None]:
    before = dict(registry._registered["operation"])
    yield
    registry._registered["operation"].clear()
    registry._registered["operation"].update(before)


class _Squeezed:
    """A user's operation with a batch norm of its own."""

    name, parameter_free = "squeezed", False

    def build(self, channels: int, stride: int) -> nn.Module:
        """A 1x1 convolution and a batch norm."""
        return nn.Sequential(nn.Conv2d(channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


def with_own_operation() -> Genotype:
    """CELLS with that operation in place of the first one."""
    register(_Squeezed())
    first, *others = CELLS.cells
    (_, *rest), *nodes = first.nodes
    return Genotype(
        "convolutional",
        (CellGenotype(first.name, 2, ((Connection("squeezed", 0), *rest), *nodes), first.outputs), *others),
    )


def check_alike(plain: TrainingLoop, recomputed: TrainingLoop) -> None:
    """Both end with the same weights and running statistics, which have moved."""
    assert recomputed.network.recomputes_cells
    assert not plain.network.recomputes_cells
    start = plain.training.weights.vector.clone(), plain.training.statistics.vector.clone()
    for loop in (plain, recomputed):
        loop.run(Remembering())
    ends = [(loop.training.weights.vector, loop.training.statistics.vector) for loop in (plain, recomputed)]
    for before, wanted, got in zip(start, *ends, strict=True):
        assert not len(before) or not torch.equal(before, wanted)
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-12)


def both(config: TrainingConfig, genotype: Genotype, data: TrainingData | None = None) -> list[TrainingLoop]:
    """The training of the config without and with recomputed cells."""
    operation = config.operation.model_copy(update={"checkpoint_cells": True})
    configs = config, config.model_copy(update={"operation": operation})
    return [tiny_loop(each, genotype=genotype, data=data) for each in configs]


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=needs_compiler if "kernel" in name else ()) for name in IMAGES]
)
def test_a_training_on_images_is_that_of_kept_cells(case: str) -> None:
    genotype, overrides = IMAGES[case]
    check_alike(*both(tiny_config("training.epochs=2", *overrides), genotype))


def test_a_training_of_nasbench201_is_that_of_kept_cells() -> None:
    config = training_config("nasbench201")
    training = config.training.model_copy(update={"precision": "float64"})
    check_alike(*both(config.model_copy(update={"training": training}), read_genotype(NASBENCH201_CELL)))


def test_an_own_operation_moves_its_statistics_once() -> None:
    check_alike(*both(tiny_config("training.epochs=2"), with_own_operation()))


def test_a_training_with_synchronised_batch_norm_is_that_of_kept_cells() -> None:
    loops = both(tiny_config("training.epochs=2"), CELLS)
    for loop in loops:  # a single rank is not synchronised by itself
        synchronise(loop.network, moments_reducer(SingleRank()))
    check_alike(*loops)


def test_a_training_on_text_is_that_of_kept_time_steps(tmp_path: Path) -> None:
    config = text_config(tmp_path, "training.epochs=2")
    data = open_data(config, 0)
    check_alike(*both(config, published("DARTS_V1", "recurrent"), data))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "genotype"),
    [(tiny_config(), CELLS), (training_config("nasbench201"), read_genotype(NASBENCH201_CELL))],
    ids=["convolutional", "nasbench201"],
)
def test_fewer_activations_are_kept(config: TrainingConfig, genotype: Genotype) -> None:
    operation = config.operation.model_copy(update={"checkpoint_cells": True})
    configs = config, config.model_copy(update={"operation": operation})
    kept = [network_figures(each, genotype, DataFacts(10, 1, 8)).activation_bytes for each in configs]
    assert kept[1] < 0.6 * kept[0]


def test_fewer_states_of_a_text_are_kept(tmp_path: Path) -> None:
    genotype, facts = published("DARTS_V1", "recurrent"), DataFacts(30, 1, 1)
    kept = [
        network_figures(text_config(tmp_path, "data.bptt=36", *more), genotype, facts).activation_bytes
        for more in ((), (CHECKPOINT,))
    ]
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_training_repeats_cells_too() -> None:
    torch._dynamo.reset()
    counters.clear()
    plain = tiny_config("training.epochs=2", "training.drop_path=0.0")
    compiled = ("operation.compile=['training']", "operation.compile_backend=aot_eager", CHECKPOINT)
    recomputed = tiny_config("training.epochs=2", "training.drop_path=0.0", *compiled)
    check_alike(tiny_loop(plain), tiny_loop(recomputed))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    torch._dynamo.reset()


def test_a_selection_recomputes_cells_as_its_search_does() -> None:
    config = load_config("digits", overrides=[CHECKPOINT, "operation.formulation=grouped"])
    operation = config.selection_config().operation
    assert operation.checkpoint_cells
    assert operation.formulation == "auto", "networks of found cells have one only"
