"""Seconds, peak memory and operator calls of a search step of every method beside plain DARTS, in one run.

python -m benchmarks.methods [--batch 64] [--layers 8] [--channels 16] [--order first] [--repeats 5]

Times are taken in turns in one process. Memory is that of a process of each method: the largest resident size of two
steps above the resident size before the first one.
"""

from __future__ import annotations

import argparse
import gc
import resource
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.measure import OperatorCalls, alternate, report
from benchmarks.search_step import CPU, a_batch
from ray_darts.config import SearchConfig, load_config
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order, Progress
from ray_darts.protocols.registry import BUILT_IN
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.tasks.collectives import SingleRank

METHODS = [name for name in BUILT_IN["method"] if name != "random"]
MIDDLE = Progress(step=500, total_steps=1000, epoch=25, epochs=50)


def main() -> None:
    """Time all methods in turns, then start a process of each for its memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--order", default="first", choices=["first", "second"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--method", help="measure the memory of this one in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.method is not None:
        print(peak_bytes(arguments.method, arguments))
        return
    names = [name for name in METHODS if arguments.order in config_of(name, arguments).method.orders]
    steps = {name: a_step(name, arguments) for name in names}
    batches = a_batch(arguments.batch, "train"), a_batch(arguments.batch, "validation")

    def run(name: str) -> None:
        steps[name].step_(*batches, 0.025, progress=MIDDLE)

    timings = alternate({name: lambda name=name: run(name) for name in names}, arguments.repeats)  # type: ignore[misc]
    rows = {}
    for name in names:
        with OperatorCalls() as counter:
            run(name)
        rows[name] = {
            "median_s": timings[name].median_s,
            "least_s": timings[name].least_s,
            "most_s": timings[name].most_s,
            "operator_calls": counter.count,
            "peak_bytes": _in_a_process(name),
        }
    plain = rows["darts"]
    for row in rows.values():
        row["seconds_to_darts"] = row["median_s"] / plain["median_s"]
        row["memory_to_darts"] = row["peak_bytes"] / plain["peak_bytes"]
    report(f"methods_{arguments.order}", vars(arguments), rows)
    for name, row in sorted(rows.items(), key=lambda item: item[1]["median_s"]):
        mib = row["peak_bytes"] / 2**20
        print(
            f"{name:12} {row['median_s']:7.3f} s  {row['seconds_to_darts']:5.2f} of darts  "
            f"{mib:7.0f} MiB  {row['memory_to_darts']:5.2f} of darts  {row['operator_calls']} calls"
        )


def config_of(name: str, arguments: argparse.Namespace) -> SearchConfig:
    """The paper's supernet with a method."""
    sizes = [f"space.layers={arguments.layers}", f"space.channels={arguments.channels}"]
    return load_config("cifar10", overrides=[f"method.kind={name}", f"search.batch_size={arguments.batch}", *sizes])


def a_step(name: str, arguments: argparse.Namespace) -> BilevelStep:
    """On the CPU, for 32x32 colour images."""
    config = config_of(name, arguments)
    order: Order = "second" if arguments.order == "second" else "first"
    supernet = build_supernet(config, DataFacts(10, 3, 32), 0, CPU)
    return BilevelStep(config, order, supernet, 0, SingleRank(), CPU)


def peak_bytes(name: str, arguments: argparse.Namespace) -> int:
    """The largest resident size of two steps above that before them."""
    step = a_step(name, arguments)
    batches = a_batch(arguments.batch, "train"), a_batch(arguments.batch, "validation")
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize()
    for _ in range(2):
        step.step_(*batches, 0.025, progress=MIDDLE)
    # getrusage keeps the maximum of the process before exec, here that of the parent.
    (peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(peak) * 1024 - before


def _in_a_process(name: str) -> int:
    command = [sys.executable, "-m", "benchmarks.methods", *sys.argv[1:], "--method", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
