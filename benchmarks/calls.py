"""Operator calls of a convolutional search step, by what they do.

python -m benchmarks.calls [--formulations separate,grouped]

One bilevel step of the CIFAR-10 supernet at batch 8 on the meta device, which computes nothing, called as a device that
is no CPU would be. Counts depend neither on the batch nor on other work of the machine.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import get_args

from benchmarks.measure import report
from ray_darts.config import load_config
from ray_darts.protocols.method import Order
from tests.spaces.test_cost import count_step

KINDS = {
    "convolutions": ("convolution",),
    "batch norms": ("native_batch_norm",),
    "pools": ("pool2d",),
    "ReLU": ("relu", "threshold"),
    "sums": (".add.", ".add_.", ".sum."),
    "copies": ("cat.", "stack.", "clone.", "repeat.", "pad_nd", "index_", "copy_", "zeros", "_backward."),
}
"""Parts of the names of operators; the first kind that fits. What is left and launches a kernel is "others"."""


def kind_of(name: str) -> str:
    """Of an operator that launches a kernel."""
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "others")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formulations", default="separate,grouped")
    results: dict[str, dict[str, int]] = {}
    for formulation in parser.parse_args().formulations.split(","):
        for order in get_args(Order):
            calls = count_step(order, formulation)
            by_kind: Counter[str] = Counter()
            for name, count in calls.launches.items():
                by_kind[kind_of(name)] += count
            counts = {kind: by_kind[kind] for kind in (*KINDS, "others")}
            results[f"{order} {formulation}"] = {
                "calls": calls.names.total(),
                "launches": calls.launches.total(),
                **counts,
            }
    report("calls", load_config("cifar10").model_dump(mode="json"), results)


if __name__ == "__main__":
    main()
