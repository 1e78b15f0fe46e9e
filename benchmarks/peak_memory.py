"""Peak resident memory of a search step, first and second order, each in a process of its own.

python -m benchmarks.peak_memory [--batch 64] [--hessian finite_difference]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import torch

from benchmarks.measure import report
from benchmarks.search_step import CPU, a_batch
from ray_darts.config import load_config
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.tasks.collectives import SingleRank


def main() -> None:
    """Start a process for each order, and compare the memory that they report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--hessian", default="finite_difference")
    parser.add_argument("--order", help="measure in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.order is not None:
        print(peak_bytes(arguments.order, arguments.batch, arguments.hessian))
        return
    peaks = {order: _in_a_process(order, arguments.batch, arguments.hessian) for order in ("first", "second")}
    report("peak_memory", vars(arguments), {**peaks, "second_to_first": peaks["second"] / peaks["first"]})


def peak_bytes(order: Order, batch: int, hessian: str) -> int:
    """Peak memory of this process after two steps of the CIFAR-10 supernet (C=16, 8 layers, 32x32)."""
    config = load_config("cifar10", overrides=[f"search.batch_size={batch}", f"search.hessian={hessian}"])
    supernet = build_supernet(config, DataFacts(10, 3, 32), 0, CPU)
    step = BilevelStep(config, order, supernet, 0, SingleRank(), CPU)
    train, validation = a_batch(batch, "train"), a_batch(batch, "validation")
    for _ in range(2):
        step.step_(train, validation, 0.025)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _in_a_process(order: str, batch: int, hessian: str) -> int:
    words = ["--order", order, "--batch", str(batch), "--hessian", hessian]
    command = [sys.executable, "-m", "benchmarks.peak_memory", *words]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
