"""How a first-order step's cost grows with nodes and with the batch: CPU seconds, operator calls, bytes kept.

python -m benchmarks.cost_growth [--nodes 2,3,4,5] [--batches 4,8,16] [--repeats 3]
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.measure import OperatorCalls, alternate, report
from ray_darts.config import load_config
from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.tasks.collectives import SingleRank

CPU = torch.device("cpu")


def main() -> None:
    """Vary one at a time around 4 nodes and batch 8."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="2,3,4,5")
    parser.add_argument("--batches", default="4,8,16")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = [(nodes, 8) for nodes in map(int, arguments.nodes.split(","))]
    cases += [(4, count) for count in map(int, arguments.batches.split(",")) if (4, count) not in cases]
    results: dict[str, object] = {}
    for nodes, count in cases:
        results[f"nodes={nodes} batch={count}"] = measure(nodes, count, arguments.layers, arguments.repeats)
    report("cost_growth", vars(arguments), results)


def measure(nodes: int, count: int, layers: int, repeats: int) -> dict[str, object]:
    """One configuration; edges grow as nodes (nodes + 3) / 2."""
    overrides = [f"space.nodes={nodes}", f"space.layers={layers}", f"search.batch_size={count}"]
    config = load_config("cifar10", overrides=overrides)
    supernet = build_supernet(config, DataFacts(10, 3, 32), 0, CPU)
    step = BilevelStep(config, "first", supernet, 0, SingleRank(), CPU)
    images = torch.randn(count, 3, 32, 32).to(memory_format=torch.channels_last)
    batch = Batch(images, torch.randint(0, 10, (count,)), Draws(0, "train", 0, 0, count, count))

    def run() -> None:
        step.step_(batch, batch, 0.025)

    timing = alternate({"step": run}, repeats)["step"]
    with OperatorCalls() as calls:
        run()
    return {
        "median_s": timing.median_s,
        "least_s": timing.least_s,
        "most_s": timing.most_s,
        "weights": step.weights.size,
        "operator_calls": calls.count,
    }


if __name__ == "__main__":
    main()
