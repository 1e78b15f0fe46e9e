"""Networks of published genotypes have the papers' sizes, and drop-path drops what it should."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ray_darts.data.batch import Draws
from ray_darts.errors import ConfigError
from ray_darts.genotype.genotype import Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.convolutional.network import ConvolutionalNetwork, DerivedCell
from ray_darts.spaces.convolutional.space import NetworkOptions
from ray_darts.spaces.convolutional.stem import StemKind
from ray_darts.spaces.genotypes import published

CIFAR = DataFacts(10, 3, 32)


def darts_v2() -> Genotype:
    """The paper's best cell."""
    return published("DARTS_V2", "convolutional")


def on_meta(facts: DataFacts, layers: int, channels: int, stem: StemKind, *, auxiliary: bool) -> ConvolutionalNetwork:
    """A network without data."""
    with torch.device("meta"):
        options = NetworkOptions(layers=layers, channels=channels, stem=stem, auxiliary=auxiliary)
        return ConvolutionalNetwork(darts_v2(), facts, options)


def num_weights(network: nn.Module) -> int:
    """Parameters of a network."""
    return sum(weight.numel() for weight in network.parameters())


def multiply_adds(network: ConvolutionalNetwork, size: int) -> int:
    """Of convolutions and linear layers, per image."""
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, 3, size, size, device="meta"))
    return int(counter.get_total_flops()) // 2


def small(*, auxiliary: bool = False) -> ConvolutionalNetwork:
    """A network that runs in milliseconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ConvolutionalNetwork(darts_v2(), CIFAR, NetworkOptions(layers=3, channels=4, auxiliary=auxiliary))


@pytest.mark.parametrize(("auxiliary", "weights"), [(False, 3_349_342), (True, 3_825_768)])
def test_darts_v2_on_cifar_has_the_known_number_of_weights(auxiliary: bool, weights: int) -> None:
    assert num_weights(on_meta(CIFAR, 20, 36, "cifar", auxiliary=auxiliary)) == weights


def test_darts_v2_on_cifar_has_the_known_cost() -> None:
    assert multiply_adds(on_meta(CIFAR, 20, 36, "cifar", auxiliary=False), 32) == pytest.approx(528.36e6, abs=5e3)


def test_darts_v2_on_imagenet_has_the_known_size_and_cost() -> None:
    network = on_meta(DataFacts(1000, 3, 224), 14, 48, "imagenet", auxiliary=False)
    assert num_weights(network) == 4_718_752
    assert multiply_adds(network, 224) == pytest.approx(529.91e6, abs=5e3)


def test_the_auxiliary_head_answers_in_training_only() -> None:
    network, images = small(auxiliary=True), torch.randn(2, 3, 32, 32)
    auxiliary = network.train()(images).auxiliary
    assert auxiliary is not None
    assert auxiliary.shape == (2, 10)
    assert network.eval()(images).auxiliary is None


def test_the_auxiliary_head_of_imagenet_fits_a_224_pixel_image() -> None:
    network = on_meta(DataFacts(1000, 3, 224), 14, 48, "imagenet", auxiliary=True)
    auxiliary = network.train()(torch.empty(2, 3, 224, 224, device="meta")).auxiliary
    assert auxiliary is not None
    assert auxiliary.shape == (2, 1000)


def test_an_auxiliary_head_on_a_map_it_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="not 2: train without it"):
        ConvolutionalNetwork(darts_v2(), DataFacts(10, 1, 8), NetworkOptions(layers=3, channels=4, auxiliary=True))


def test_drop_path_is_a_function_of_the_draws_and_off_in_evaluation() -> None:
    network, images = small(), torch.randn(4, 3, 32, 32)
    first, other = (Draws(0, "train", step, 0, 4, 4) for step in (1, 2))
    network.train()
    kept = network(images, first, 0.5).final
    assert torch.equal(network(images, first, 0.5).final, kept)
    assert not torch.equal(network(images, other, 0.5).final, kept)
    network.eval()
    assert torch.equal(network(images, first, 0.5).final, network(images).final)


def test_drop_path_spares_identities_and_scales_what_it_keeps() -> None:
    cell = small().cells[0].eval()
    assert isinstance(cell, DerivedCell)
    edges = len(cell.operations)
    before, previous = torch.randn(2, 1, 12, 8, 8)
    whole = cell(before, previous, None)
    dropped = cell(before, previous, torch.zeros(edges, 1, 1, 1, 1))
    identity = cell.preprocess[0](before)
    assert torch.equal(dropped[:, :8], torch.zeros_like(dropped[:, :8]))
    assert torch.equal(dropped[:, 8:12], identity)
    doubled = cell(before, previous, torch.full((edges, 1, 1, 1, 1), 2.0))
    torch.testing.assert_close(doubled[:, :8], 2 * whole[:, :8])
