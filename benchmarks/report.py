"""Time, memory and size of the page of 1, 10 and 100 finished runs of a CIFAR-10 search.

    python -m benchmarks.report [--runs 1,10,100] [--steps 19500]

Synthetic alphas that wander, 224 of them, 50 epochs; every trace is published, so probabilities are read, not computed.
Each page is written by `ray-darts report` in a process of its own, whose peak memory counts.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import machine
from ray_darts.artifacts import traces
from ray_darts.artifacts.architecture import RunArchitecture
from ray_darts.artifacts.open import open_store
from tests.report.page.experiments import EXPERIMENT, whole_experiment


def softmax_of_all(architecture: RunArchitecture, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `probabilities` returns for the default method and eight operations, for all rows at once."""
    rows = values.reshape(len(values), -1, 8).astype(np.float64)
    exponentials = np.exp(rows - rows.max(-1, keepdims=True))
    softmax = exponentials / exponentials.sum(-1, keepdims=True)
    flat: NDArray[np.float32] = softmax.astype(np.float32).reshape(values.shape)
    return flat


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", default="1,10,100")
    arguments.add_argument("--steps", type=int, default=19_500)
    given = arguments.parse_args()
    traces.probabilities = softmax_of_all  # only to make the stores quickly; the page reads what was published
    print(f"{machine()}\n{given.steps:,} steps a run")
    print("| runs | seconds | peak memory, MB | page, MB |")
    print("|---|---|---|---|")
    for number in map(int, given.runs.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            whole_experiment(open_store(f"{folder}/store"), number, given.steps, 50)
            page = Path(folder) / "page.html"
            words = [sys.executable, "-m", "ray_darts", "report", EXPERIMENT, "--store", f"{folder}/store"]
            began = time.perf_counter()
            subprocess.run([*words, "--output", str(page)], check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - began
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
            print(f"| {number} | {seconds:.1f} | {peak:.0f} | {page.stat().st_size / 1e6:.2f} |", flush=True)


if __name__ == "__main__":
    main()
