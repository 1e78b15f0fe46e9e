"""The default method: softmax in tensors and in plain Python, and no draws."""

from __future__ import annotations

import math

import torch

from ray_darts.data.batch import Draws
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.methods.darts import Darts
from ray_darts.protocols.method import Progress
from ray_darts.spaces.convolutional.space import convolutional_layout

DRAWS = Draws(0, "architecture.alpha", 0, 0, 1, 1)
START = Progress(0, 10, 0, 1)


def test_weights_and_their_gradient_are_those_of_softmax() -> None:
    alphas = torch.tensor([[0.0, math.log(3)], [1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    layout = SpaceLayout("two", (CellLayout("cell", 1, 2, ("a", "b"), 1),), "a", frozenset())
    weights = Darts().weights(layout, {"cell": alphas}, DRAWS, START)["cell"]
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75], [0.5, 0.5]], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(weights[0, 1], alphas)
    wanted = torch.tensor([[-0.1875, 0.1875], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(gradient, wanted, rtol=1e-14, atol=1e-15)


def test_the_decode_rule_agrees_with_the_weights() -> None:
    layout = convolutional_layout(2)
    flat = torch.randn(layout.num_alphas, generator=torch.Generator().manual_seed(0))
    mixing = Darts().mixing(layout, flat.tolist())
    groups = {group.name: group for group in Darts().groups(layout)}
    sizes = [group.size for group in groups.values()]
    parts = {
        name: part.view(groups[name].shape).double()
        for name, part in zip(groups, torch.split(flat, sizes), strict=True)
    }
    for cell, weights in Darts().weights(layout, parts, DRAWS, START).items():
        torch.testing.assert_close(torch.tensor(mixing[cell], dtype=torch.float64), weights, rtol=1e-14, atol=0)


def test_runs_of_the_default_method_keep_their_short_names() -> None:
    assert Darts().run_prefix == ""
    assert Darts().orders == ("first", "second")
