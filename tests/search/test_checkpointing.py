"""Recomputed cells and the exact Hessian product together: a search moves as it does without recomputing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ray_darts.protocols.method import Order
from ray_darts.search.loop import SearchLoop
from ray_darts.tasks.collectives import SingleRank
from tests.search.searches import CPU, tiny_config, tiny_data, tiny_loop

CHECKPOINT = "operation.checkpoint_cells=true"
ORDERS: list[tuple[Order, str]] = [("first", "exact"), ("second", "exact"), ("second", "finite_difference")]


def loops(order: Order, hessian: str) -> tuple[SearchLoop, SearchLoop]:
    """The same search without and with recomputed cells."""
    plain = tiny_config(f"search.hessian={hessian}")
    recomputed = tiny_config(f"search.hessian={hessian}", CHECKPOINT)
    return tiny_loop(plain, order, SingleRank()), tiny_loop(recomputed, order, SingleRank())


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
