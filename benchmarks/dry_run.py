"""Time and peak memory of counting a step for a dry run, both orders, each size in a process of its own.

python -m benchmarks.dry_run [--layers 3 8 20] [--sizes 32 75 224] [--channels 4]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from benchmarks.measure import report
from ray_darts.config import load_config
from ray_darts.protocols.dataset import DataFacts
from ray_darts.search.footprint import measure_footprint

STEMS = ("cifar", "imagenet")


def main() -> None:
    """Start a process for each size, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 8, 20])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 75, 224])
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--one", nargs=3, metavar=("LAYERS", "SIZE", "STEM"), help="measure in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one is not None:
        layers, size, stem = arguments.one
        print(json.dumps(measure(int(layers), int(size), stem, arguments.channels)))
        return
    results = {}
    for stem in STEMS:
        for size in arguments.sizes:
            for layers in arguments.layers:
                words = ["--one", str(layers), str(size), stem, "--channels", str(arguments.channels)]
                command = [sys.executable, "-m", "benchmarks.dry_run", *words]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = results[f"{stem} {size} {layers}"] = json.loads(done.stdout)
                print(f"| {stem} | {size} | {layers} | {' | '.join(map(str, found.values()))} |", flush=True)
    report("dry_run", vars(arguments), results)


def measure(layers: int, size: int, stem: str, channels: int) -> dict[str, float]:
    """Seconds for both orders, the memory that they add, and what a step with data would keep of two samples (MB)."""
    sets = [f"space.layers={layers}", f"space.channels={channels}", f"space.stem={stem}"]
    config, facts = load_config("cifar10", overrides=sets), DataFacts(10, 3, size)
    before, cpu, wall = _peak_mb(), time.process_time(), time.monotonic()
    footprints = [measure_footprint(config, facts, order, "cpu") for order in ("first", "second")]
    kept = footprints[0].activation_bytes * 2 / config.search.batch_size
    return {
        "cpu_s": round(time.process_time() - cpu, 1),
        "wall_s": round(time.monotonic() - wall, 1),
        "more_mb": round(_peak_mb() - before),
        "peak_mb": round(_peak_mb()),
        "kept_by_two_samples_mb": round(kept / 1e6),
        "operator_calls": footprints[1].operator_calls,
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
