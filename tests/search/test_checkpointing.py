"""A search with recomputed cells moves as it does without, whatever else is set."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ray_darts.protocols.method import Order
from ray_darts.search.loop import SearchLoop
from ray_darts.spaces.batch_norm import synchronise
from ray_darts.tasks.batch_norm import moments_reducer
from ray_darts.tasks.collectives import SingleRank
from tests.search.searches import CPU, tiny_config, tiny_data, tiny_loop
from tests.search.test_named_methods import METHODS, MIDDLE, config_of
from tests.spaces.test_kernel import needs_compiler

SETTINGS = {
    "micro-batches": ("search.accumulate=2",),
    "grouped": ("operation.formulation=grouped",),
    "bfloat16": ("search.precision=bfloat16",),
}

CHECKPOINT = "operation.checkpoint_cells=true"
ORDERS: list[tuple[Order, str]] = [("first", "exact"), ("second", "exact"), ("second", "finite_difference")]


def loops(order: Order, hessian: str, *overrides: str) -> tuple[SearchLoop, SearchLoop]:
    """The same search without and with recomputed cells."""
    plain = tiny_config(f"search.hessian={hessian}", *overrides)
    recomputed = tiny_config(f"search.hessian={hessian}", CHECKPOINT, *overrides)
    return tiny_loop(plain, order, SingleRank()), tiny_loop(recomputed, order, SingleRank())


def check_a_step(plain: SearchLoop, recomputed: SearchLoop) -> None:
    """One step of both, in the middle of a search, changes everything alike."""
    start = [tensor.clone() for tensor in state(plain)]
    for loop in (plain, recomputed):
        batches = tiny_data(loop.config).bilevel_batches(0, 0, SingleRank().shard, CPU)
        loop.bilevel.step_(*batches, 0.1, progress=MIDDLE)
        assert bool(loop.bilevel.healthy)
    for before, wanted, got in zip(start, state(plain), state(recomputed), strict=True):
        assert not torch.equal(before, wanted)
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def state(loop: SearchLoop) -> list[Tensor]:
    """Alphas, weights, statistics, both optimisers' moments and the sums of the epoch."""
    step = loop.bilevel
    vectors = step.alphas.vector, step.weights.vector, step.statistics.vector, step.sgd.momentum_buffer
    return [*vectors, step.adam.first_moment, step.adam.second_moment, step.totals]


@pytest.mark.parametrize(("order", "hessian"), ORDERS)
def test_the_alpha_gradient_is_that_of_kept_cells(order: Order, hessian: str) -> None:
    plain, recomputed = loops(order, hessian)
    train, validation = tiny_data(plain.config).bilevel_batches(0, 0, SingleRank().shard, CPU)
    wanted, _ = plain.bilevel.alpha_gradient(train, validation, 0.1)
    got, _ = recomputed.bilevel.alpha_gradient(train, validation, 0.1)
    assert wanted.gradient.abs().max() > 1e-6
    torch.testing.assert_close(got.gradient, wanted.gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("order", "hessian"), ORDERS)
def test_whole_steps_are_those_of_kept_cells(order: Order, hessian: str) -> None:
    plain, recomputed = loops(order, hessian)
    start = [tensor.clone() for tensor in state(plain)]
    for loop in (plain, recomputed):
        loop._advance_()
        loop._advance_()
        assert bool(loop.bilevel.healthy)
    for before, wanted, got in zip(start, state(plain), state(recomputed), strict=True):
        assert not torch.equal(before, wanted)
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("hessian", ["exact", "finite_difference"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_step_with_other_settings_is_that_of_kept_cells(setting: str, hessian: str) -> None:
    check_a_step(*loops("second", hessian, *SETTINGS[setting]))


@pytest.mark.parametrize("hessian", ["exact", "finite_difference"])
def test_a_step_with_synchronised_batch_norm_is_that_of_kept_cells(hessian: str) -> None:
    both = loops("second", hessian)
    for loop in both:  # a single rank is not synchronised by itself
        synchronise(loop.supernet, moments_reducer(SingleRank()))
    check_a_step(*both)


@needs_compiler
@pytest.mark.parametrize("hessian", ["exact", "finite_difference"])
def test_a_step_with_the_compiled_kernel_is_that_of_kept_cells(hessian: str) -> None:
    check_a_step(*loops("second", hessian, "space.channels=8", "operation.kernel=compiled"))


@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_each_method_is_that_of_kept_cells(name: str) -> None:
    plain, recomputed = config_of(name, "search.hessian=exact"), config_of(name, "search.hessian=exact", CHECKPOINT)
    order = plain.method.orders[-1]
    check_a_step(tiny_loop(plain, order, SingleRank()), tiny_loop(recomputed, order, SingleRank()))
