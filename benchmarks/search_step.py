"""One search step of the package against the plain edge-by-edge oracle of the tests, around the same bilevel step.

python -m benchmarks.search_step [--batches 8,32] [--repeats 3] [--orders first,second]
    [--formulations separate,compiled,grouped] [--hessians finite_difference,exact]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import torch

from benchmarks.measure import OperatorCalls, alternate, peak_flops, report
from ray_darts.config import SearchConfig, load_config
from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order
from ray_darts.search.footprint import measure_footprint
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.supernet import Supernet
from ray_darts.tasks.collectives import SingleRank
from tests.spaces.convolutional_oracle import OracleSupernet

CPU = torch.device("cpu")


def main() -> None:
    """Time, then count, each order and Hessian at each batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="8,32", help="batch sizes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--formulations",
        default="separate,compiled",
        help="separate,compiled,grouped; compiled: separate with the C++ kernel",
    )
    parser.add_argument("--hessians", default="finite_difference,exact")
    parser.add_argument("--orders", default="first,second")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    floor = peak_flops()
    hessians = arguments.hessians.split(",")
    cases: list[tuple[Order, str]] = [("first", "none")] if "first" in arguments.orders else []
    cases += [("second", hessian) for hessian in hessians if "second" in arguments.orders]
    for count in map(int, arguments.batches.split(",")):
        for order, hessian in cases:
            overrides = [f"search.batch_size={count}"]
            if order == "second":
                overrides.append(f"search.hessian={hessian}")
            config = load_config("cifar10", overrides=overrides)
            results = measure(config, order, count, arguments.formulations.split(","), arguments.repeats, floor)
            name = f"search_step_{order}_{hessian}_{count}" if order == "second" else f"search_step_first_{count}"
            report(name, config.model_dump(mode="json"), results)


def measure(
    config: SearchConfig, order: Order, count: int, formulations: list[str], repeats: int, floor: float
) -> dict[str, object]:
    """CPU seconds of each network's step, timed in turns, ratios to the oracle, counts, ratio to peak FLOPS."""
    facts, space = DataFacts(10, 3, 32), config.space
    assert isinstance(space, ConvolutionalSpace)
    builders: dict[str, Callable[[], Supernet]] = {"oracle": lambda: OracleSupernet(space, facts)}
    for name in formulations:
        builders[name] = partial(build, name, space, facts)
    train, validation = a_batch(count, "train"), a_batch(count, "validation")
    runs: dict[str, Callable[[], object]] = {}
    results: dict[str, object] = {}
    for name, builder in builders.items():
        step = BilevelStep(config, order, builder(), 0, SingleRank(), CPU)
        runs[name] = partial(step.step_, train, validation, 0.025)
    timings = alternate(runs, repeats)
    needed = measure_footprint(config, facts, order, "cpu").flops
    for name, run in runs.items():
        with OperatorCalls() as calls:
            run()
        timing = timings[name]
        results[name] = {
            **asdict(timing),
            "speedup": timings["oracle"].median_s / timing.median_s,
            "speedup_of_the_least": timings["oracle"].least_s / timing.least_s,
            "operator_calls": calls.count,
            "times_the_flop_floor": timing.median_s / (needed / floor),
        }
    results["flops"] = needed
    results["floor_gflops"] = floor / 1e9
    return results


def build(name: str, space: ConvolutionalSpace, facts: DataFacts) -> Supernet:
    """The package's supernet: "separate", "compiled" or "grouped"."""
    if name == "grouped":
        return ConvolutionalSupernet(space, facts, formulation="grouped")
    return ConvolutionalSupernet(space, facts, kernel=Kernel() if name == "compiled" else None)


def a_batch(count: int, stream: str) -> Batch:
    """Noise in the shape of CIFAR-10."""
    images = torch.randn(count, 3, 32, 32).to(memory_format=torch.channels_last)
    return Batch(images, torch.randint(0, 10, (count,)), Draws(0, stream, 0, 0, count, count))


if __name__ == "__main__":
    main()
