"""Figures of derived networks: the papers' numbers, and counts on the meta device that equal those with data."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest
import torch

from ray_darts.config import TrainingConfig, load_training_config
from ray_darts.errors import ConfigError
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.convolutional.network import ConvolutionalNetwork
from ray_darts.spaces.genotypes import published, read_genotype
from ray_darts.training.figures import NetworkFigures, cell_depth, count_network, network_figures, num_edges
from tests.spaces.nasbench201.test_network import CELLS, cell_of

CIFAR = DataFacts(10, 3, 32)
IMAGES = {"kind": "images", "source": "cifar10"}
TEXT = {"kind": "text", "source": "ptb"}


def config_of(
    kind: str, data: Mapping[str, object], training: Mapping[str, object] | None = None, **network: object
) -> TrainingConfig:
    return load_training_config(
        settings={"network": {"kind": kind, **network}, "data": data, "training": training or {}}
    )


def figures_of(name: str, config: TrainingConfig, facts: DataFacts) -> NetworkFigures:
    return network_figures(config, published(name, config.network.kind), facts)


def test_darts_v2_on_cifar10_has_the_papers_size() -> None:
    figures = figures_of("DARTS_V2", config_of("convolutional", IMAGES), CIFAR)
    assert (figures.parameters, figures.parameters_with_auxiliary) == (3_349_342, 3_825_768)
    assert figures.multiply_adds == pytest.approx(528.36e6, abs=5e3)
    assert figures.depth == {"normal": 2, "reduction": 2}
    assert figures.edges == {"normal": 8, "reduction": 8}


def test_an_auxiliary_head_that_trains_costs_activations_and_no_multiply_adds() -> None:
    without = config_of("convolutional", IMAGES, layers=6, channels=8)
    trained = config_of("convolutional", IMAGES, {"auxiliary_weight": 0.4}, layers=6, channels=8)
    small, large = (figures_of("DARTS_V2", config, CIFAR) for config in (without, trained))
    assert small.parameters_with_auxiliary == large.parameters_with_auxiliary > small.parameters == large.parameters
    assert small.multiply_adds == large.multiply_adds
    assert small.activation_bytes < large.activation_bytes


def test_drop_path_keeps_its_masks_for_the_backward_pass() -> None:
    plain = config_of("convolutional", IMAGES, layers=6, channels=8)
    dropping = config_of("convolutional", IMAGES, {"drop_path": 0.2}, layers=6, channels=8)
    small, large = (figures_of("DARTS_V2", config, CIFAR) for config in (plain, dropping))
    assert small.activation_bytes < large.activation_bytes


def test_a_head_that_maps_are_too_small_for_is_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    config = config_of("convolutional", IMAGES, {"auxiliary_weight": 0.4}, layers=3, channels=4)
    with caplog.at_level(logging.WARNING):
        figures = figures_of("DARTS_V2", config, DataFacts(10, 1, 8))
    assert figures.parameters == figures.parameters_with_auxiliary
    assert [record.getMessage() for record in caplog.records] == [
        "warning: an auxiliary head needs a map of 8 to 10 pixels after two thirds of the cells, not 2: train without "
        "it, or choose another image size or stem: training without the auxiliary head"
    ]


def test_darts_v2_on_imagenet_has_the_known_size() -> None:
    config = config_of("convolutional", IMAGES, layers=14, channels=48, stem="imagenet")
    figures = figures_of("DARTS_V2", config, DataFacts(1000, 3, 224))
    assert figures.parameters == 4_718_752
    assert figures.multiply_adds == pytest.approx(529.91e6, abs=5e3)


@pytest.mark.parametrize(("words", "size", "parameters"), [(10_000, 850, 22_960_000), (33_278, 700, 33_127_878)])
def test_language_models_have_the_papers_sizes(words: int, size: int, parameters: int) -> None:
    figures = figures_of("DARTS_V2", config_of("recurrent", TEXT, size=size), DataFacts(words))
    assert figures.parameters == figures.parameters_with_auxiliary == parameters
    assert figures.multiply_adds == parameters - words, "a token passes each weight once, and the decoder has a bias"
    assert figures.activation_bytes < parameters, "weights, of four bytes each, are no activations"
    assert figures.depth == {"recurrent": 4}


@pytest.mark.parametrize("choices", CELLS)
def test_cells_of_the_benchmark_have_its_sizes(choices: tuple[str, ...]) -> None:
    large, small = choices.count("nor_conv_3x3"), choices.count("nor_conv_1x1")
    figures = network_figures(config_of("nasbench201", IMAGES), cell_of(*choices), CIFAR)
    assert figures.parameters == figures.parameters_with_auxiliary == 73_306 + 243_040 * large + 28_000 * small
    assert figures.multiply_adds / 1e6 == pytest.approx(7.783 + 35.389 * large + 3.932 * small, abs=4e-3)
    assert figures.edges == {"cell": 6 - choices.count("none")}


@pytest.mark.parametrize(
    ("config", "name", "facts"),
    [
        (
            config_of("convolutional", IMAGES, {"auxiliary_weight": 0.4, "drop_path": 0.2}, layers=3, channels=4),
            "DARTS_V2",
            CIFAR,
        ),
        (
            config_of("convolutional", IMAGES, {"precision": "float64"}, layers=3, channels=4),
            "DARTS_V1",
            DataFacts(5, 1, 9),
        ),
        (config_of("recurrent", {**TEXT, "bptt": 5}, size=6), "DARTS_V1", DataFacts(11)),
    ],
    ids=["auxiliary", "float64", "text"],
)
def test_counts_without_data_equal_those_with_data(config: TrainingConfig, name: str, facts: DataFacts) -> None:
    genotype = published(name, config.network.kind)
    without, counted = (count_network(config, genotype, facts, torch.device(kind)) for kind in ("meta", "cpu"))
    assert without == counted


def test_activations_are_those_of_one_sample_in_the_training_precision() -> None:
    single, double = (
        figures_of("DARTS_V2", config_of("convolutional", IMAGES, {"precision": kind}, layers=3, channels=4), CIFAR)
        for kind in ("float32", "float64")
    )
    assert double.activation_bytes == pytest.approx(2 * single.activation_bytes, rel=0.1)


def test_a_network_that_reads_values_is_counted_with_data(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("convolutional", IMAGES, layers=3, channels=4)
    wanted = figures_of("DARTS_V2", config, CIFAR)
    inner = ConvolutionalNetwork.forward

    def reading(self, images, *args, **options):  # type: ignore[no-untyped-def]
        float(images.detach().sum())
        return inner(self, images, *args, **options)

    monkeypatch.setattr(ConvolutionalNetwork, "forward", reading)
    assert figures_of("DARTS_V2", config, CIFAR).multiply_adds == wanted.multiply_adds


def test_depth_is_the_longest_path_without_none() -> None:
    chain = cell_of("skip_connect", "none", "nor_conv_1x1", "none", "none", "avg_pool_3x3").cells[0]
    assert (cell_depth(chain), num_edges(chain)) == (3, 3)
    cut = cell_of("skip_connect", "none", "none", "none", "none", "avg_pool_3x3").cells[0]
    assert (cell_depth(cut), num_edges(cut)) == (0, 2), "node 2 has no path from the input"
    direct = cell_of("skip_connect", "none", "none", "skip_connect", "none", "avg_pool_3x3").cells[0]
    assert cell_depth(direct) == 1
    assert cell_depth(cell_of(*["skip_connect"] * 6).cells[0]) == 3, "the longest of several paths"
    unread = CellGenotype("cell", 1, ((Connection("a", 0),), (Connection("b", 1),)), (1,))
    assert cell_depth(unread) == 1, "node 1 is no output"


def test_a_genotype_of_another_space_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"of space 'recurrent' cannot be trained with network\.kind 'convolutional'"):
        network_figures(config_of("convolutional", IMAGES), published("DARTS_V2", "recurrent"), CIFAR)


def test_figures_are_plain_data() -> None:
    genotype: Genotype = read_genotype(published("DARTS_V1", "convolutional").to_json())
    figures = network_figures(config_of("convolutional", IMAGES, layers=3, channels=4), genotype, CIFAR)
    assert figures.to_data() == {
        "parameters": figures.parameters,
        "parameters_with_auxiliary": figures.parameters_with_auxiliary,
        "multiply_adds": figures.multiply_adds,
        "activation_bytes": figures.activation_bytes,
        "depth": {"normal": 2, "reduction": 2},
        "edges": {"normal": 8, "reduction": 8},
    }
