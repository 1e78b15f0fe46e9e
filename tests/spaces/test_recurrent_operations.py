"""The mix of highway-gated activations and the decoder's loss: algebra, both derivatives, and no unused work."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from ray_darts.spaces.recurrent import decoder
from ray_darts.spaces.recurrent.decoder import decoder_loss
from ray_darts.spaces.recurrent.operations import (
    ACTIVATIONS,
    Mixture,
    highway,
    mixed_highway,
    mixed_highway_,
    mixed_highway_gradients,
    mixture_gradients,
)
from tests.spaces.test_cost import Calls

OPERATIONS = ("none", "tanh", "relu", "sigmoid", "identity")


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()


def mix_inputs() -> tuple[Tensor, Tensor, Tensor]:
    return draw(3, 2, 4, seed=1), draw(3, 2, 8, seed=2), draw(3, 5, seed=3)


def decoder_inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return draw(6, 3, seed=1), draw(7, 3, seed=2), draw(7, seed=3), torch.tensor([0, 6, 3, 3, 1, 5])


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_an_activation_and_its_slope_are_pytorchs(name: str) -> None:
    values = torch.linspace(-30, 30, 101, dtype=torch.float64, requires_grad=True)
    expected = getattr(torch, name)(values) if name != "identity" else values * 1
    result = ACTIVATIONS[name].value(values)
    torch.testing.assert_close(result, expected, rtol=1e-15, atol=1e-15)
    (slope,) = torch.autograd.grad(expected.sum(), values)
    scaled = ACTIVATIONS[name].slope(result, torch.tensor([[2.0], [3.0]], dtype=torch.float64)).expand(2, 101)
    torch.testing.assert_close(scaled, torch.stack([2 * slope, 3 * slope]), rtol=0, atol=1e-14)


def test_the_mix_is_the_weighted_sum_of_all_candidates_but_none() -> None:
    states, gated, probabilities = mix_inputs()
    expected = torch.zeros(2, 4, dtype=torch.float64)
    for source in range(3):
        for k, name in enumerate(OPERATIONS):
            if name != "none":
                expected = expected + probabilities[source, k] * highway(states[source], gated[source], name)
    mixture = Mixture.of(probabilities, OPERATIONS)
    torch.testing.assert_close(mixed_highway(states, gated, mixture), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("names", [OPERATIONS, ("identity", "none", "relu"), ("sigmoid",)])
@pytest.mark.parametrize("of_weights", [False, True])
def test_explicit_derivatives_of_the_mix_are_autograds(names: tuple[str, ...], of_weights: bool) -> None:
    states, gated, probabilities = mix_inputs()
    probabilities = probabilities[:, : len(names)]
    mixture, gradient = Mixture.of(probabilities, names), draw(2, 4, seed=4).detach()
    expected = mixed_highway(states, gated, mixture)
    inputs = states, gated, probabilities
    of_states, of_gated, of_probabilities = torch.autograd.grad(expected, inputs, gradient)
    with torch.no_grad():
        work = gated.clone()
        node, excess = mixed_highway_(states, work, mixture, keep_candidates=of_weights)
        found = (
            mixture_gradients(gradient, states, work, excess, mixture)
            if of_weights
            else mixed_highway_gradients(gradient, work, excess)
        )
    torch.testing.assert_close(node, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(found.kept * mixture.mass, of_states, rtol=0, atol=1e-14)
    torch.testing.assert_close(found.gated, of_gated, rtol=0, atol=1e-14)
    if of_weights:
        assert found.weights is not None
        present = [k for k, name in enumerate(names) if name != "none"]
        torch.testing.assert_close(found.weights, of_probabilities[:, present], rtol=0, atol=1e-14)


def test_first_and_second_derivatives_of_the_decoder_are_those_of_differences() -> None:
    *inputs, targets = decoder_inputs()

    def function(rows: Tensor, embedding: Tensor, bias: Tensor) -> Tensor:
        return decoder_loss(rows, embedding, bias, targets)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_the_decoder_loss_is_cross_entropy_in_chunks_and_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, embedding, bias, targets = decoder_inputs()
    inputs = rows, embedding, bias
    expected = functional.cross_entropy(rows @ embedding.t() + bias, targets, reduction="sum")
    gradients = torch.autograd.grad(expected, inputs)
    for elements in (1, 14, 1000):
        monkeypatch.setattr(decoder, "_CACHED_ELEMENTS", elements)
        loss = decoder_loss(*inputs, targets)
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-13)
        for found, gradient in zip(torch.autograd.grad(loss, inputs), gradients, strict=True):
            torch.testing.assert_close(found, gradient, rtol=0, atol=1e-13)
        with torch.no_grad():
            alone = decoder_loss(*inputs, targets)
        torch.testing.assert_close(alone, expected.detach(), rtol=0, atol=1e-13)


def test_a_word_thought_impossible_costs_much_and_not_infinitely() -> None:
    rows, embedding = torch.tensor([[1000.0]]), torch.tensor([[1.0], [-1.0]])
    assert decoder_loss(rows, embedding, torch.zeros(2), torch.tensor([1])).item() == 2000.0


def test_the_decoder_keeps_no_logits_and_computes_no_gradient_of_held_weights() -> None:
    rows, embedding, bias, targets = decoder_inputs()
    kept: list[Tensor] = []
    products = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    for held in (False, True):
        embedding.requires_grad_(not held)
        bias.requires_grad_(not held)
        with saved_tensors_hooks(keep, lambda tensor: tensor), Calls() as calls:
            loss = decoder_loss(rows, embedding, bias, targets)
        products.append(sum(count for name, count in calls.names.items() if "mm" in name))
        assert max(tensor.numel() for tensor in kept) < rows.shape[0] * embedding.shape[0]
    assert products == [3, 2]
    assert loss.requires_grad
