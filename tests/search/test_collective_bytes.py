"""What two real ranks exchange in a step is what is counted without them; the model of a ring."""

from __future__ import annotations

import pytest
import torch

from benchmarks.collective_bytes import LINKS, Exchange, count, efficiency, most_workers
from benchmarks.search_step import CPU
from ray_darts.config import load_config
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.batch_norm import synchronise
from ray_darts.spaces.build import build_supernet
from ray_darts.tasks.batch_norm import moments_reducer
from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.counting import dummy_batch
from tests.search.ranks import RankProcesses

FACTS = DataFacts(10, 1, 8)
SETS = ("space.channels=2", "space.nodes=2")


def exchanged(collectives: Collectives, order: Order, batch_norm: str) -> tuple[int, int]:
    """(reductions, bytes) of one real step on this rank."""
    config = load_config("digits", overrides=SETS)
    supernet = build_supernet(config, FACTS, 0, CPU)
    if batch_norm == "sync":
        synchronise(supernet, moments_reducer(collectives))
    step = BilevelStep(config, order, supernet, 0, collectives, CPU)
    train, validation = (dummy_batch(config.data, FACTS, 4, torch.float32, CPU) for _ in range(2))
    step.step_(train, validation, 0.05)
    return collectives.num_calls, collectives.num_bytes


@pytest.mark.parametrize("batch_norm", ["local", "sync"])
@pytest.mark.parametrize("order", ["first", "second"])
def test_what_is_counted_is_what_two_ranks_exchange(ranks: RankProcesses, order: Order, batch_norm: str) -> None:
    counted = count(load_config("digits", overrides=SETS), FACTS, order, batch_norm, "cpu")
    assert ranks.run(2, exchanged, order, batch_norm) == [counted, counted]
    assert (counted[0] > 4) == (batch_norm == "sync")


def test_the_ring_model_by_hand() -> None:
    link = LINKS[0]
    exchange = Exchange("by hand", "first", "local", 2, 1_250_000)
    seconds = 1e-3 + 2 * 2 * link.latency_s  # two workers: the bytes once over the link, two hops for each of two sums
    assert efficiency(exchange, link, 2, seconds) == pytest.approx(0.5)
    assert most_workers(exchange, link, seconds, 0.5) == 2
    assert most_workers(exchange, link, seconds, 0.51) == 1
