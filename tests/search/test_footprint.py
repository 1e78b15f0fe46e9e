import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ray_darts.config import load_config
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order
from ray_darts.search.footprint import Footprint, count_step, measure_footprint
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet

ROOT = Path(__file__).parents[2]
FORWARD_MULTIPLY_ADDS = 300_250_000
"""Of the convolutions of the CIFAR-10 supernet (C=16, 8 layers) for one image."""
POINTWISE_MULTIPLY_ADDS = 194_248_704
"""Of the pointwise ones among them that a batch norm reads whole, without factorised reduces."""


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


def test_a_first_order_step_costs_five_forward_passes_and_pointwise_convolutions_again(cifar10: Footprint) -> None:
    """Alpha: forward and the gradient of activations; weights: forward, both gradients, and the pointwise convolutions
    whose result is not kept. The stem and each input's first operation need no gradient of activations, so it is a
    little less."""
    forward, again = 2 * FORWARD_MULTIPLY_ADDS * 64, 2 * POINTWISE_MULTIPLY_ADDS * 64
    assert 4.8 * forward < cifar10.flops - again < 5.0 * forward


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


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize(
    ("preset", "facts", "overrides"),
    [
        ("cifar10", DataFacts(10, 3, 8), ["space.channels=4", "space.layers=3", "space.nodes=2"]),
        ("digits", DataFacts(10, 1, 9), ["space.channels=2", "space.nodes=2", "search.accumulate=2"]),
        ("cifar10", DataFacts(10, 3, 32), ["space.channels=2", "space.nodes=1", "space.stem=imagenet"]),
        (
            "cifar10",
            DataFacts(10, 3, 8),
            ["space.channels=2", "space.layers=3", "space.nodes=2", "operation.formulation=grouped"],
        ),
        ("nasbench201", DataFacts(10, 3, 8), ["space.channels=4", "space.cells_per_stage=1"]),
        ("ptb", DataFacts(50), ["space.nodes=2", "space.embedding=8", "space.hidden=8", "data.bptt=5"]),
    ],
)
def test_counts_without_data_equal_those_with_data(
    preset: str, facts: DataFacts, overrides: list[str], order: Order
) -> None:
    config = load_config(preset, overrides=overrides)
    without, counted = (count_step(config, facts, order, "cpu", torch.device(name)) for name in ("meta", "cpu"))
    assert without == counted


def test_a_step_whose_activations_need_gigabytes_is_counted_without_them() -> None:
    program = (
        "import resource, torch; torch.set_num_threads(1)\n"
        "from ray_darts.config import load_config; from ray_darts.protocols.dataset import DataFacts\n"
        "from ray_darts.search.footprint import measure_footprint\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "config = load_config('cifar10', overrides=['space.layers=3', 'space.nodes=2'])\n"
        "measure_footprint(config, DataFacts(10, 3, 8), 'first', 'cpu'); before = peak()\n"
        "print(measure_footprint(config, DataFacts(10, 3, 448), 'first', 'cpu').activation_bytes, peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    activations, more = map(int, done.stdout.split())
    assert activations / 32 > 1e9, "two samples of the 64"
    assert more < 1e8


def test_a_plugins_space_that_reads_values_is_counted_with_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device has no values."""
    config = load_config("digits", overrides=["space.channels=2", "space.nodes=1"])
    wanted = measure_footprint(config, DataFacts(10, 1, 8), "first", "cpu")
    inner = ConvolutionalSupernet.logits

    def reading(self: ConvolutionalSupernet, images: Tensor, *args: object, **options: object) -> Tensor:
        float(images.detach().sum())
        return inner(self, images, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ConvolutionalSupernet, "logits", reading)
    assert measure_footprint(config, DataFacts(10, 1, 8), "first", "cpu").flops == wanted.flops


def test_text_is_counted_over_the_whole_sequence() -> None:
    sets = ["space.nodes=2", "space.embedding=4", "space.hidden=4"]
    short, long = (
        measure_footprint(load_config("sotu", overrides=[*sets, f"data.bptt={bptt}"]), DataFacts(50), "first", "cpu")
        for bptt in (4, 8)
    )
    assert short.num_weights == long.num_weights
    assert long.flops == pytest.approx(2 * short.flops, rel=0.05)
