"""The mix of highway-gated activations and the decoder's loss: algebra, both derivatives, and no unused work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ray_darts.spaces.recurrent import decoder, operations
from ray_darts.spaces.recurrent.decoder import decoder_loss
from ray_darts.spaces.recurrent.operations import ACTIVATIONS, highway, mixed_highway

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
    torch.testing.assert_close(ACTIVATIONS[name].slope(result).expand_as(slope), slope, rtol=0, atol=1e-15)


def test_the_mix_is_the_weighted_sum_of_all_candidates_but_none() -> None:
    states, gated, probabilities = mix_inputs()
    expected = torch.zeros(2, 4, dtype=torch.float64)
    for source in range(3):
        for k, name in enumerate(OPERATIONS):
            if name != "none":
                expected = expected + probabilities[source, k] * highway(states[source], gated[source], name)
    torch.testing.assert_close(mixed_highway(states, gated, probabilities, OPERATIONS), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda s, g, p: mixed_highway(s, g, p, OPERATIONS), mix_inputs()),
        # The same source behind gate and state, as in a cell: a derivative must not count both paths twice.
        (lambda s, p: mixed_highway(s, torch.cat([s, 2 * s], -1), p, OPERATIONS), (mix_inputs()[0], mix_inputs()[2])),
        (lambda rows, e, b: decoder_loss(rows, e, b, decoder_inputs()[3]), decoder_inputs()[:3]),
    ],
    ids=["mix", "mix of one source", "decoder"],
)
def test_first_and_second_derivatives_are_those_of_differences(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...]
) -> None:
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_the_decoder_loss_is_cross_entropy_in_chunks_and_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, embedding, bias, targets = decoder_inputs()
    expected = functional.cross_entropy(rows @ embedding.t() + bias, targets, reduction="sum")
    for elements in (1, 14, 1000):
        monkeypatch.setattr(decoder, "_CACHED_ELEMENTS", elements)
        torch.testing.assert_close(decoder_loss(rows, embedding, bias, targets), expected, rtol=0, atol=1e-13)
        with torch.no_grad():
            alone = decoder_loss(rows, embedding, bias, targets)
        torch.testing.assert_close(alone, expected.detach(), rtol=0, atol=1e-13)


def test_a_word_thought_impossible_costs_much_and_not_infinitely() -> None:
    rows, embedding = torch.tensor([[1000.0]]), torch.tensor([[1.0], [-1.0]])
    assert decoder_loss(rows, embedding, torch.zeros(2), torch.tensor([1])).item() == 2000.0


def test_a_backward_pass_works_out_only_the_gradients_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def recording(ctx: torch.autograd.function.FunctionCtx, index: int) -> bool:
        asked.append(operations.wants_gradient(ctx, index))
        return asked[-1]

    monkeypatch.setattr(decoder, "wants_gradient", recording)
    rows, embedding, bias, targets = decoder_inputs()
    torch.autograd.grad(decoder_loss(rows * 1, embedding, bias, targets), [rows])
    assert asked == [True, False, False]
    torch.autograd.grad(decoder_loss(rows * 1, embedding, bias, targets), [embedding, bias])
    assert asked[3:] == [False, True, True]
