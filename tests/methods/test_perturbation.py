"""SDARTS: the perturbed mixing weights against a plain oracle, the ascent against one by hand."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from ray_darts.methods.named import SdartsAdv, SdartsRs
from ray_darts.methods.perturbation import Perturbation, perturbed
from tests.methods.test_relaxations import LAYOUT, SHAPE, alphas, at, draws


def no_loss(weights: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """A random perturbation asks for none."""
    raise AssertionError("the training loss was asked for")


def test_a_random_perturbation_is_uniform_within_its_radius() -> None:
    tables = {"cell": alphas().detach()}
    found = torch.stack(
        [SdartsRs().disturbance(LAYOUT, tables, draws(step), at(25), no_loss)["cell"] for step in range(300)]  # type: ignore[index]
    )
    radius = 0.03 + 0.27 / 2
    assert found.abs().max() <= radius
    assert found.abs().max() > 0.999 * radius
    assert abs(found.mean().item()) < 4.5 * radius / (3 * found.numel()) ** 0.5
    assert found.std().item() == pytest.approx(radius / 3**0.5, rel=0.01)


def test_perturbed_weights_are_clipped_and_divided_by_their_sum() -> None:
    weights = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9]], dtype=torch.float64)
    delta = torch.tensor([[0.2, -0.3, 0.1], [-0.2, 0.3, -0.2], [-0.1, -0.2, -0.99]], dtype=torch.float64)
    found = perturbed({"cell": weights, "edges.cell": weights[0]}, {"cell": delta})
    wanted = [[0.9 / 1.1, 0.0, 0.2 / 1.1], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    wanted[2] = [1.0, 0.0, 0.0]  # nothing is left: the largest sum, of -0.05, -0.15 and -0.09, is the first
    torch.testing.assert_close(found["cell"], torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-15)
    assert found["edges.cell"] is weights[0] or torch.equal(found["edges.cell"], weights[0])


def test_the_adversarial_perturbation_climbs_the_training_loss_by_signs() -> None:
    slope = torch.randn(SHAPE, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    asked = []

    def loss(weights: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        asked.append(weights["cell"])
        return (slope * weights["cell"]).sum(), {"cell": slope}

    table = alphas().detach()
    found = SdartsAdv().disturbance(LAYOUT, {"cell": table}, draws(), at(0), loss)
    assert found is not None
    assert len(asked) == 9, "before, seven steps, after"
    torch.testing.assert_close(asked[0], table.softmax(-1))
    delta = torch.from_numpy(draws().generator("perturbation.cell").uniform(-0.03, 0.03, size=SHAPE))
    for _ in range(7):
        delta = (delta + slope.sign() * 2 * 0.03 / 7).clamp(-0.03, 0.03)
    torch.testing.assert_close(found["cell"], delta, rtol=0, atol=1e-15)


def test_an_ascent_that_lowered_the_loss_is_dropped() -> None:
    def loss(weights: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        uphill = torch.ones(SHAPE, dtype=torch.float64)
        return -(weights["cell"] - alphas().detach().softmax(-1)).abs().sum(), {"cell": uphill}

    found = SdartsAdv().disturbance(LAYOUT, {"cell": alphas().detach()}, draws(), at(0), loss)
    assert found is not None
    assert found["cell"].abs().max() == 0


def test_the_radius_grows_epoch_by_epoch() -> None:
    assert [Perturbation().radius_at(at(epoch)) for epoch in (0, 25)] == [0.03, pytest.approx(0.165)]
