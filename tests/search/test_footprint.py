from collections.abc import Iterator

import pytest
import torch

from ray_darts.config import load_config
from ray_darts.protocols.dataset import DataFacts
from ray_darts.search.footprint import Footprint, measure_footprint

FORWARD_MULTIPLY_ADDS = 300_250_000
"""Of the convolutions of the CIFAR-10 supernet (C=16, 8 layers) for one image."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small kernels on several threads wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cifar10() -> Footprint:
    return measure_footprint(load_config("cifar10"), DataFacts(10, 3, 32), "first", "cpu")


def test_the_papers_supernet_is_counted(cifar10: Footprint) -> None:
    assert (cifar10.num_weights, cifar10.num_alphas) == (1_930_618, 224)


def test_a_first_order_step_costs_five_forward_passes(cifar10: Footprint) -> None:
    """Alpha: forward and the gradient of activations; weights: forward and both gradients. The stem and each input's
    first operation need no gradient of activations, so it is a little less."""
    forward = 2 * FORWARD_MULTIPLY_ADDS * 64
    assert 4.8 * forward < cifar10.flops < 5.0 * forward


def test_second_order_takes_at_least_twice_as_much() -> None:
    config = load_config("digits", overrides=["space.channels=2", "space.nodes=2"])
    first, second = (measure_footprint(config, DataFacts(10, 1, 8), order, "cpu") for order in ("first", "second"))
    assert 2 < second.flops / first.flops < 3
    assert second.operator_calls > 2 * first.operator_calls
    assert second.activation_bytes == first.activation_bytes


def test_work_is_proportional_to_the_batch_and_activations_to_the_micro_batch() -> None:
    sets = ["space.channels=2", "space.nodes=2"]
    one, twice, accumulated = (
        measure_footprint(load_config("digits", overrides=[*sets, *more]), DataFacts(10, 1, 8), "first", "cpu")
        for more in (
            ["search.batch_size=32"],
            ["search.batch_size=64"],
            ["search.batch_size=64", "search.accumulate=2"],
        )
    )
    assert twice.flops == pytest.approx(2 * one.flops)
    assert accumulated.flops == pytest.approx(twice.flops)
    assert twice.activation_bytes == pytest.approx(2 * one.activation_bytes, rel=0.01)
    assert accumulated.activation_bytes == pytest.approx(one.activation_bytes, rel=0.01)


def test_text_is_counted_over_the_whole_sequence() -> None:
    sets = ["space.nodes=2", "space.embedding=4", "space.hidden=4"]
    short, long = (
        measure_footprint(load_config("sotu", overrides=[*sets, f"data.bptt={bptt}"]), DataFacts(50), "first", "cpu")
        for bptt in (4, 8)
    )
    assert short.num_weights == long.num_weights
    assert long.flops == pytest.approx(2 * short.flops, rel=0.05)
