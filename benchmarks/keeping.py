"""Measures the bytes that a finished run of CIFAR-10's size keeps in a folder, per way of keeping.

`python benchmarks/keeping.py`; the alphas are a random walk, as in `benchmarks/store.py`.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.store import EXPERIMENT, LAYOUT, WEIGHTS, timed, whole_run
from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.compact import conclude_run
from ray_darts.artifacts.experiment import register_experiment
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.superseded import Keeping
from ray_darts.artifacts.verify import verify_experiment

RUN = "second-order-seed-0"
WAYS = {
    "two checkpoints": (Keeping(2, 2), False),
    "default": (Keeping(), False),
    "compacted": (Keeping(), True),
    "compacted, no checkpoint": (Keeping(2, 0), True),
    "each tenth step": (Keeping(2, 1, 10), False),
    "each tenth step, compacted, no checkpoint": (Keeping(2, 0, 10), True),
}


def measure(keeping: Keeping, *, compact: bool) -> tuple[Counter[str], float]:
    """(Bytes of each kind of object, seconds of compacting) of one run; verified at the end."""
    tensors = {"weights": np.zeros(2 * WEIGHTS, np.float32), "alphas": np.zeros(3 * LAYOUT.num_alphas, np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        register_experiment(
            store, EXPERIMENT, identity={}, config_digest="0" * 64, layout=LAYOUT, data_digests={}, code="bench"
        )
        whole_run(store, 0, Checkpoint(tensors, {"step": 0}), keeping)
        conclude_run(store, EXPERIMENT, RUN, keeping.finished_checkpoints)
        seconds = 0.0
        if compact:
            keep = keeping.finished_checkpoints
            seconds, _ = timed(
                lambda: collect_experiment(store, EXPERIMENT, 0.0, True, compact=True, keep_finished_checkpoints=keep)
            )
        report = verify_experiment(store, EXPERIMENT)
        assert report.clean, report.problems
        sizes: Counter[str] = Counter()
        for entry in store.list_objects(f"{EXPERIMENT}/runs/"):
            folders = [name for name in ("checkpoints", "parts", "log") if f"/{name}/" in entry.key]
            sizes[folders[0] if folders else entry.key.rpartition("/")[2]] += entry.num_bytes
    return sizes, seconds


def main() -> None:
    """Print a line for each way."""
    for name, (keeping, compact) in WAYS.items():
        sizes, seconds = measure(keeping, compact=compact)
        kinds = ", ".join(f"{kind} {size / 1e6:.2f}" for kind, size in sizes.most_common(4))
        total = sizes.total()
        print(f"{name}: {total / 1e6:.1f} MB a run, {total / 1e5:.0f} GB for 10,000 ({kinds} MB); {seconds:.1f} s")


if __name__ == "__main__":
    main()
