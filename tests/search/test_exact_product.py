"""The exact product by tangents is that by two backward passes, whatever computes the passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ray_darts.config import SearchConfig, load_config
from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Progress
from ray_darts.search import hypergradient
from ray_darts.search.step import BilevelStep
from ray_darts.spaces import tangents
from ray_darts.spaces.build import build_supernet
from ray_darts.spaces.moving_norm import normalise_moving
from ray_darts.spaces.supernet import Pass
from ray_darts.tasks.collectives import SingleRank
from ray_darts.tasks.flat import FlatVector
from tests.search.searches import CPU
from tests.search.text_searches import NUM_WORDS, text_config
from tests.search.toy import no_ranks, objective
from tests.spaces.test_kernel import needs_compiler

SMALL = ("space.channels=4", "space.nodes=2", "space.layers=3", "search.batch_size=5")
EXACT = ("search.precision=float64", "search.hessian=exact", "alphas.init_scale=0.5")
MIDDLE = Progress(step=1, total_steps=2, epoch=1, epochs=2)


def images(*overrides: str) -> SearchConfig:
    """The convolutional space."""
    return load_config("cifar10", overrides=(*SMALL, *EXACT, *overrides))


def benchmark(*overrides: str) -> SearchConfig:
    """The space with affine batch norms."""
    small = ("space.channels=2", "search.batch_size=5", "space.affine=true")
    return load_config("nasbench201-digits", overrides=(*small, *EXACT, *overrides))


CASES: dict[str, Callable[[], SearchConfig]] = {
    "separate": images,
    "grouped": partial(images, "operation.formulation=grouped"),
    "recomputed cells": partial(images, "operation.checkpoint_cells=true"),
    "micro-batches": partial(images, "search.accumulate=2"),
    "imagenet stem": partial(images, "space.stem=imagenet"),
    "sampled operations": partial(images, "method.kind=gdas"),
    "partial channels": partial(images, "method.kind=pc-darts"),
    "nasbench201": benchmark,
    "text": partial(text_config, *EXACT),
    "recomputed time steps": partial(text_config, *EXACT, "operation.checkpoint_cells=true"),
}


def a_batch(config: SearchConfig) -> Batch:
    """Noise, or words."""
    draw = torch.Generator().manual_seed(1)
    count = config.search.batch_size
    if config.space.data_forms == ("text",):
        words = torch.randint(NUM_WORDS, (7, count), generator=draw)
        return Batch(words[:-1], words[1:], Draws(0, "train", 0, 0, count, count), batch_dim=1)
    inputs = torch.randn(count, 3, 33, 33, generator=draw, dtype=torch.float64)
    return Batch(inputs, torch.randint(10, (count,), generator=draw), Draws(0, "train", 0, 0, count, count))


def both_products(config: SearchConfig) -> tuple[Tensor, Tensor]:
    """By tangents, and by two backward passes, along a random direction."""
    facts = DataFacts(NUM_WORDS if config.space.data_forms == ("text",) else 10, 3, 33)
    step = BilevelStep(config, "second", build_supernet(config, facts, 0, CPU), 0, SingleRank(), CPU)
    batch = a_batch(config)
    carry = step.supernet.initial_carry(batch.num_samples, CPU)
    training = step.objective("training", batch, carry, Pass.ALPHA, MIDDLE)
    v = torch.randn(step.weights.size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    by_tangents = hypergradient._slope_gradient(step.weights, step.alphas, training, v)
    backwards = hypergradient._double_backward(step.weights, step.alphas, training, v)
    assert all(tangents.of(weight) is None for weight in step.weights.tensors.values())
    return by_tangents.vector, backwards.vector


@pytest.mark.parametrize("case", CASES)
def test_both_ways_give_one_product(case: str) -> None:
    found, wanted = both_products(CASES[case]())
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


@needs_compiler
@pytest.mark.parametrize("recomputed", ["true", "false"])
def test_both_ways_give_one_product_with_the_compiled_kernel(recomputed: str) -> None:
    settings = "operation.kernel=compiled", f"operation.checkpoint_cells={recomputed}"
    found, wanted = both_products(images(*settings, "space.channels=8"))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


class _Cube(torch.autograd.Function):
    """A user's function without a tangent."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return inputs * inputs * inputs

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (inputs,) = ctx.saved_tensors  # type: ignore[attr-defined]
        slope: Tensor = 3 * gradient * inputs.square()
        return slope


def cube(inputs: Tensor) -> Tensor:
    """Its cube."""
    return _Cube.apply(inputs)  # type: ignore[no-any-return]


def softmax(inputs: Tensor) -> Tensor:
    """PyTorch's tangent of it is computed in place."""
    return torch.softmax(inputs, 0)


@pytest.mark.parametrize("function", [cube, softmax])
def test_what_carries_no_tangent_is_differentiated_backwards_twice(
    function: Callable[[Tensor], Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    weights = FlatVector({"w": nn.Parameter(torch.tensor([0.5, -1.0], dtype=torch.float64))})
    alphas = FlatVector({"a": nn.Parameter(torch.tensor([2.0, 3.0], dtype=torch.float64))}, aligned=False)
    w, a = weights.tensors["w"], alphas.tensors["a"]
    passes = 0

    def loss() -> Tensor:
        nonlocal passes
        passes += 1
        return (a * function(a * w)).sum()

    v = weights.vector.clone()
    for expected in (2, 3):
        product = hypergradient._exact_product(weights, alphas, objective(loss), v, no_ranks)
        assert passes == expected, "the way that failed is not tried again"
    slope = torch.autograd.functional.jvp(lambda inner: (a * function(a * inner)).sum(), w.detach(), w.detach(), True)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(product, torch.autograd.grad(slope[1], a)[0])
    assert len(caplog.records) == 1


def test_other_errors_of_a_pass_pass_through() -> None:
    weights = FlatVector({"w": nn.Parameter(torch.ones(1))})

    def loss() -> Tensor:
        raise RuntimeError("not enough memory")

    with pytest.raises(RuntimeError, match="not enough memory"):
        hypergradient._exact_product(weights, weights, objective(loss), weights.vector, no_ranks)


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 2, 5)])
@pytest.mark.parametrize("affine", [False, True])
def test_the_slope_of_a_batch_norm_has_the_gradients_of_the_formula(shape: tuple[int, ...], affine: bool) -> None:
    draw = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw, dtype=torch.float64).requires_grad_()

    inputs, gain, bias, above = normal(*shape), normal(3), normal(3), normal(*shape)
    moves = [normal(*shape), normal(3), normal(3)] if affine else [normal(*shape)]
    leaves = [inputs, gain, *moves]

    def plain(x: Tensor, *parameters: Tensor) -> Tensor:
        dims = [dim for dim in range(x.dim()) if dim != 1]
        var, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
        factor, offset = (p.view(1, -1, *[1] * (x.dim() - 2)) for p in (*parameters, gain, bias)[:2])
        return (((x - mean) * (var + 1e-3).rsqrt() * factor + offset).sin() * above).sum()

    given = (inputs, gain, bias) if affine else (inputs,)
    _, slope = torch.autograd.functional.jvp(plain, given, tuple(moves), create_graph=True)  # type: ignore[no-untyped-call]
    wanted = torch.autograd.grad(slope, leaves)
    with tangents.carried():
        x, *parameters = (tangents.moving(tensor, move) for tensor, move in zip(given, moves, strict=True))
        factor, offset = parameters or (gain, bias)
        output = normalise_moving(x, factor, offset, 1e-3)
        found_slope = tangents.of((output.sin() * above).sum())
        assert found_slope is not None
        with tangents.paused():
            found = torch.autograd.grad(found_slope, leaves)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
