"""Weak scaling from one worker to two: two gloo ranks of one thread each run, in turns, one search of twice the batch
and two independent searches. Needs two idle cores.

python -m benchmarks.weak_scaling [--batch 8] [--steps 3] [--turns 4] [--order first]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from statistics import median

import torch
import torch.distributed as dist

from benchmarks.measure import report
from benchmarks.search_step import CPU, a_batch
from ray_darts.config import load_config
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.tasks.collectives import Collectives, SingleRank
from tests.search.ranks import RankProcesses


def seconds(collectives: Collectives, batch: int, steps: int, turns: int, order: Order) -> dict[str, list[float]]:
    """Wall seconds per step on this rank, for both ways and each turn, until the slower rank is done."""
    torch.set_num_threads(1)
    config = load_config("cifar10", overrides=[f"search.batch_size={batch}"])
    train, validation = (
        replace(a_batch(batch, stream), share=1 / collectives.shard.world_size) for stream in ("train", "validation")
    )
    ways: dict[str, Collectives] = {"apart": SingleRank(), "together": collectives}
    made = {
        name: BilevelStep(config, order, build_supernet(config, DataFacts(10, 3, 32), 0, CPU), 0, way, CPU)
        for name, way in ways.items()
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, step in made.items():
            dist.barrier()
            start = time.perf_counter()
            for _ in range(steps):
                step.step_(train, validation, 0.025)
            dist.barrier()
            if turn:
                found[name].append((time.perf_counter() - start) / steps)
    return found


def main() -> None:
    """Print and save the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="of each worker")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--order", default="first")
    arguments = parser.parse_args()
    ranks = RankProcesses(2)
    try:
        words = arguments.batch, arguments.steps, arguments.turns, arguments.order
        found = ranks.run(2, seconds, *words)[0]
    finally:
        ranks.close()
    apart, together = median(found["apart"]), median(found["together"])
    report("weak_scaling", vars(arguments), {**found, "efficiency": apart / together})


if __name__ == "__main__":
    main()
