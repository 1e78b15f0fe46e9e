"""The package's own search steps against each other: first order, finite difference and exact Hessian, with and without
the kernel, with one thread and more. What cannot be compared with the oracle, for want of its memory or its patience.

python -m benchmarks.own_steps [--batch 8] [--repeats 3] [--formulations separate,compiled]
    [--cases first,finite_difference,exact] [--threads 1] [--clock cpu]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import product

import torch

from benchmarks.measure import alternate, report
from benchmarks.search_step import CPU, a_batch, build
from ray_darts.config import load_config
from ray_darts.data.batch import Batch
from ray_darts.protocols.dataset import DataFacts
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.tasks.collectives import SingleRank

_CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}


def main() -> None:
    """Time all of them in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--formulations", default="separate,compiled", help="of search_step")
    parser.add_argument("--cases", default="first,finite_difference,exact")
    parser.add_argument("--threads", default="1", help="of which each is tried")
    parser.add_argument("--clock", choices=sorted(_CLOCKS), default="cpu", help="wall: where threads are compared")
    arguments = parser.parse_args()
    batches = a_batch(arguments.batch, "train"), a_batch(arguments.batch, "validation")
    runs: dict[str, Callable[[], object]] = {}
    for formulation, case in product(arguments.formulations.split(","), arguments.cases.split(",")):
        step = a_step(formulation, case, arguments.batch)
        for threads in map(int, arguments.threads.split(",")):
            runs[f"{formulation}, {case}, {threads} threads"] = partial(_run, step, *batches, threads)
    timings = alternate(runs, arguments.repeats, clock=_CLOCKS[arguments.clock])
    report(f"own_steps_{arguments.batch}", vars(arguments), {name: asdict(each) for name, each in timings.items()})


def a_step(formulation: str, case: str, count: int) -> BilevelStep:
    """The step of the preset cifar10; `case`: "first", or the Hessian of the second order."""
    hessian = [] if case == "first" else [f"search.hessian={case}"]
    config = load_config("cifar10", overrides=[f"search.batch_size={count}", *hessian])
    facts, space = DataFacts(10, 3, 32), config.space
    assert isinstance(space, ConvolutionalSpace)
    order = "first" if case == "first" else "second"
    return BilevelStep(config, order, build(formulation, space, facts), 0, SingleRank(), CPU)


def _run(step: BilevelStep, train: Batch, validation: Batch, threads: int) -> None:
    torch.set_num_threads(threads)
    step.step_(train, validation, 0.025)


if __name__ == "__main__":
    main()
