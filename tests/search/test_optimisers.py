"""The masked optimisers follow torch.optim, and an unhealthy step changes no bit."""

from __future__ import annotations

import pytest
import torch

from ray_darts.config import AlphaOptimiser, WeightOptimiser
from ray_darts.search.adam import Adam
from ray_darts.tasks.sgd import Sgd, clip_coefficient

GOOD, BAD = torch.tensor(True), torch.tensor(False)


def gradients(count: int, size: int = 12) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=draw, dtype=torch.float64) for _ in range(count)]


def test_sgd_follows_pytorch_with_clipping_momentum_and_decay() -> None:
    settings = WeightOptimiser(momentum=0.9, weight_decay=0.03, clip=2.0)
    start = gradients(1)[0]
    reference = start.clone().requires_grad_()
    theirs = torch.optim.SGD([reference], lr=1.0, momentum=0.9, weight_decay=0.03)
    weights, ours = start.clone(), Sgd(settings, start)
    for number, gradient in enumerate(gradients(6)):
        rate = 0.1 / (1 + number)
        coefficient = clip_coefficient(gradient, 2.0)
        assert coefficient is not None
        reference.grad = gradient * coefficient
        theirs.param_groups[0]["lr"] = rate
        theirs.step()
        ours.step_(weights, gradient, rate, GOOD)
    torch.testing.assert_close(weights, reference.detach(), rtol=1e-13, atol=1e-15)


def test_adam_follows_pytorch_with_l2_decay() -> None:
    settings = AlphaOptimiser(learning_rate=0.02, betas=(0.5, 0.999), weight_decay=1e-3)
    start = gradients(1)[0]
    reference = start.clone().requires_grad_()
    theirs = torch.optim.Adam([reference], lr=0.02, betas=(0.5, 0.999), weight_decay=1e-3)
    alphas, ours = start.clone(), Adam(settings, start)
    for gradient in gradients(6):
        reference.grad = gradient.clone()
        theirs.step()
        assert bool(ours.step_(alphas, gradient, GOOD))
    torch.testing.assert_close(alphas, reference.detach(), rtol=1e-13, atol=1e-15)


def test_an_unhealthy_step_changes_no_bit() -> None:
    start = gradients(1)[0]
    weights, sgd = start.clone(), Sgd(WeightOptimiser(), start)
    alphas, adam = start.clone(), Adam(AlphaOptimiser(), start)
    sgd.step_(weights, gradients(1)[0], 0.1, GOOD)
    adam.step_(alphas, gradients(1)[0], GOOD)
    state = [
        t.clone() for t in (weights, sgd.momentum_buffer, alphas, adam.first_moment, adam.second_moment, adam.count)
    ]
    poison = torch.full_like(start, torch.nan)
    assert not bool(sgd.step_(weights, poison, 0.1, BAD))
    assert not bool(adam.step_(alphas, poison, BAD))
    now = (weights, sgd.momentum_buffer, alphas, adam.first_moment, adam.second_moment, adam.count)
    assert all(torch.equal(one, other) for one, other in zip(state, now, strict=True))


def test_adam_refuses_alphas_that_would_not_be_finite() -> None:
    start = torch.zeros(4)
    adam = Adam(AlphaOptimiser(), start)
    assert not bool(adam.step_(start, torch.tensor([1.0, torch.inf, 0.0, 0.0]), GOOD))
    assert torch.equal(start, torch.zeros(4))


def test_clipping_leaves_small_and_zero_gradients_alone() -> None:
    assert clip_coefficient(torch.zeros(3), 5.0) == 1
    assert clip_coefficient(torch.tensor([3.0, 4.0]), 10.0) == 1
    assert clip_coefficient(torch.tensor([3.0, 4.0]), 1.0) == pytest.approx(0.2)
    assert clip_coefficient(torch.ones(3), None) is None


def test_the_cosine_runs_from_the_rate_towards_its_minimum_and_counts_epochs_from_zero() -> None:
    settings = WeightOptimiser(learning_rate=0.025, learning_rate_min=0.001)
    assert settings.rate(0, 50) == 0.025
    assert settings.rate(25, 50) == pytest.approx(0.013)
    assert 0.001 < settings.rate(49, 50) < 0.00103
    constant = WeightOptimiser(learning_rate=20.0, schedule="constant")
    assert constant.rate(7, 50) == 20.0


def test_sgd_refuses_weights_that_would_not_be_finite() -> None:
    weights = torch.tensor([3e38, 1.0])
    sgd = Sgd(WeightOptimiser(clip=None), weights)
    assert not bool(sgd.step_(weights, torch.tensor([-3e38, 0.0]), 10.0, GOOD))
    assert torch.equal(weights, torch.tensor([3e38, 1.0]))
    assert torch.equal(sgd.momentum_buffer, torch.zeros(2))
