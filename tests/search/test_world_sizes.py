"""The same maths at any world size, and each of the three averages (and the sample weights) needed for it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ray_darts.protocols.method import Order
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.tasks.collectives import Collectives
from tests.search.ranks import RankProcesses
from tests.search.searches import CPU, eight_operations, tiny_config, tiny_data, tiny_loop

STEPS = 8
RIDING = 4  # the loss and the supernet's three sums, which ride on an average


def alphas_after_steps(
    collectives: Collectives, order: Order, hessian: str, batch_norm: str, steps: int = STEPS, forget: str = ""
) -> NDArray[np.float64]:
    """Alphas [num_alphas] after some steps; `forget` names an average to leave out on purpose."""
    config = tiny_config(
        f"search.hessian={hessian}", f"search.batch_norm={batch_norm}", "search.epochs=9", "alphas.learning_rate=0.02"
    )
    loop = tiny_loop(config, order, collectives)
    data = tiny_data(config)
    if forget and forget != "sample weights":
        forgetful = Forgetful(collectives, forget, loop.bilevel.weights.size, loop.layout.num_alphas)
        loop.bilevel.collectives = loop.bilevel.weight_step._collectives = forgetful
    for step in range(steps):
        epoch, index = divmod(step, data.num_steps(0))
        train, validation = data.bilevel_batches(epoch, index, collectives.shard, CPU)
        if forget == "sample weights":
            equal = 1 / collectives.shard.world_size
            train, validation = replace(train, share=equal), replace(validation, share=equal)
        loop.bilevel.step_(train, validation, 0.05)
    alphas: NDArray[np.float64] = loop.bilevel.alphas.vector.numpy().copy()
    return alphas


class Forgetful:
    """Collectives that leave one average of the second order out: the rank's own part stands for the whole."""

    def __init__(self, inner: Collectives, which: str, num_weights: int, num_alphas: int) -> None:
        self._inner, self._which = inner, which
        self._num_weights, self._num_alphas = num_weights, num_alphas
        self.shard = inner.shard
        self.num_calls = self.num_bytes = 0

    def _name(self, vector: torch.Tensor) -> str:
        extra = vector.numel() - self._num_weights
        if extra < 0:
            return "product"
        if extra > self._num_alphas + RIDING:
            return "weights"
        return "outer" if extra > self._num_alphas else "inner"

    def sum_(self, vector: torch.Tensor) -> None:
        """Sum, but for the forgotten average."""
        if self._name(vector) == self._which:
            vector.mul_(self.shard.world_size)
        else:
            self._inner.sum_(vector)

    def all_rows(self, row: torch.Tensor) -> torch.Tensor:
        """As the inner collectives."""
        return self._inner.all_rows(row)


@pytest.mark.parametrize(
    ("order", "hessian", "steps"),
    [("first", "finite_difference", STEPS), ("second", "finite_difference", 20), ("second", "exact", STEPS)],
)
def test_one_two_and_three_workers_agree_in_every_alpha(
    ranks: RankProcesses, order: Order, hessian: str, steps: int
) -> None:
    (alone,) = ranks.run(1, alphas_after_steps, order, hessian, "sync", steps)
    assert np.abs(alone).max() > 0.05, "the alphas must have moved"
    for world_size in (2, 3):
        each = ranks.run(world_size, alphas_after_steps, order, hessian, "sync", steps)
        for alphas in each:
            np.testing.assert_array_equal(alphas, each[0])
            np.testing.assert_allclose(alphas, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", ["first", "second"])
def test_local_batch_norm_still_gives_every_rank_the_same_bits(ranks: RankProcesses, order: Order) -> None:
    (alone,) = ranks.run(1, alphas_after_steps, order, "finite_difference", "local", 5)
    each = ranks.run(3, alphas_after_steps, order, "finite_difference", "local", 5)
    for alphas in each:
        np.testing.assert_array_equal(alphas, each[0])
    assert np.abs(each[0] - alone).max() > 1e-6, "local statistics are another function of the batch"


@cache
def _whole_and_alone(ranks: RankProcesses) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    arguments = ("second", "finite_difference", "sync", 2)
    return ranks.run(2, alphas_after_steps, *arguments)[0], ranks.run(1, alphas_after_steps, *arguments)[0]


@pytest.mark.parametrize("forget", ["inner", "outer", "product", "weights", "sample weights"])
def test_leaving_out_any_one_average_is_seen(ranks: RankProcesses, forget: str) -> None:
    whole, alone = _whole_and_alone(ranks)
    broken = ranks.run(2, alphas_after_steps, "second", "finite_difference", "sync", 2, forget)[0]
    assert np.abs(whole - alone).max() < 1e-12
    assert np.abs(broken - alone).max() > 1e-9


def cost_of_a_step(
    collectives: Collectives, order: Order, batch_norm: str
) -> tuple[int, int, tuple[int, int, int, int]]:
    """(collectives, bytes, (weights, alphas, statistics, bytes of a number)) of one step."""
    config = eight_operations(f"search.batch_norm={batch_norm}")
    loop = tiny_loop(config, order, collectives)
    train, validation = tiny_data(config).bilevel_batches(0, 0, collectives.shard, CPU)
    before = collectives.num_calls, collectives.num_bytes
    step = loop.bilevel
    step.step_(train, validation, 0.05)
    sizes = step.weights.size, step.alphas.size, step.statistics.size, step.weights.vector.element_size()
    return collectives.num_calls - before[0], collectives.num_bytes - before[1], sizes


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_step_costs_the_collectives_and_bytes_that_the_readme_states(ranks: RankProcesses, order: Order) -> None:
    for calls, num_bytes, (weights, alphas, statistics, size) in ranks.run(2, cost_of_a_step, order, "local"):
        numbers = [alphas + RIDING, weights + RIDING + statistics]
        if order == "second":
            numbers = [weights + RIDING, alphas + weights + RIDING, alphas, weights + RIDING + statistics]
        assert calls == len(numbers)
        assert num_bytes == size * sum(numbers)


def test_synchronised_statistics_cost_two_collectives_per_group_and_pass(ranks: RankProcesses) -> None:
    """Each pass of all weights has one forward and one backward; three groups before any alpha are left out of a
    backward pass that ends at the alphas."""
    space = eight_operations().space
    assert isinstance(space, ConvolutionalSpace)
    groups = 1 + space.layers * (1 + 2 * space.nodes)
    to_weights, to_alphas = 2 * groups, 2 * groups - 3
    for order, wanted in (("first", 2 + to_weights + to_alphas), ("second", 4 + 3 * to_weights + 2 * to_alphas)):
        assert {calls for calls, _, _ in ranks.run(2, cost_of_a_step, order, "sync")} == {wanted}
