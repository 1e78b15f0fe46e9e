"""Every pass of a step, its gradient inside, is one graph without breaks: what torch.compile needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.mixing import Alphas

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _gradients_inside_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("formulation", ["separate", "grouped"])
@pytest.mark.parametrize(
    ("purpose", "wanted"),
    [(Pass.WEIGHT, "weights"), (Pass.ALPHA, "alphas and weights"), (Pass.ALPHA, "alphas")],
    ids=["training", "validation", "alpha_training"],
)
def test_a_pass_with_its_gradient_is_one_graph(purpose: Pass, wanted: str, formulation: str) -> None:
    torch.manual_seed(0)
    space = ConvolutionalSpace(layers=3, channels=2, nodes=2)
    supernet = ConvolutionalSupernet(
        space, DataFacts(3, 1, 8), formulation="grouped" if formulation == "grouped" else "separate"
    ).double()
    alphas = Alphas(space.layout())
    inputs: list[Tensor] = []
    if "alphas" in wanted:
        inputs += alphas.parameters()
    if "weights" in wanted:
        inputs += supernet.parameters()
    images, labels = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    batch = Batch(images.to(memory_format=torch.channels_last), labels, Draws(0, "t", 0, 0, 4, 4))

    def gradient() -> tuple[Tensor, ...]:
        return torch.autograd.grad(supernet.loss(batch, None, purpose, alphas.mixing()).loss, inputs)

    expected = gradient()
    traced = torch.compile(gradient, fullgraph=True, backend="eager")()
    for got, want in zip(traced, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
