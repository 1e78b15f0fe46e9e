"""Hundreds of runs of seconds each through one command, killed as a whole twice; every trace is verified.

python -m benchmarks.many_runs [--runs 200] [--runs-per-start 25]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.starts import look, memory
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.statuses import experiment_status
from ray_darts.artifacts.verify import verify_experiment
from tests.cluster.local_cluster import processes

NAME = "many"
SETTINGS = ("space.channels=2", "space.nodes=1", "data.fraction=0.1", "search.batch_size=32", "search.epochs=1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--runs-per-start", type=int, default=25)
    given = parser.parse_args()
    settings = [*SETTINGS, f"operation.runs_per_start={given.runs_per_start}"]
    with tempfile.TemporaryDirectory(prefix="many-") as folder:
        store, held = LocalStore(Path(folder)), dict[str, dict[int, tuple[float, ...]]]()
        began = time.monotonic()
        code = None
        for share in (1 / 3, 2 / 3, 2.0):
            code = search(store, folder, settings, given.runs, share, held)
        report = verify_experiment(store, NAME)
        runs = experiment_status(store, NAME)
        result = {
            "runs": given.runs,
            "exit_code": code,
            "wall_s": round(time.monotonic() - began),
            "finished": sum(run.state == "finished" for run in runs),
            "claims": sum(run.claims for run in runs),
            "problems": [str(problem) for problem in report.problems],
            "memory_mb": memory(held),
        }
        print(json.dumps(result, indent=2))


def search(
    store: LocalStore,
    folder: str,
    settings: list[str],
    runs: int,
    share: float,
    held: dict[str, dict[int, tuple[float, ...]]],
) -> int:
    """Run the command until `share` of the runs have finished, and kill it with all that it started; its exit code."""
    words = ["search", "--preset", "digits", "--name", NAME, "--store", folder, "--orders", "first", "--quiet"]
    words += [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-c", "from ray_darts.cli import main; main()  # ray_darts.cli", *words]
    started = subprocess.Popen([*command, "--seeds", str(runs)], env=os.environ, stdout=subprocess.DEVNULL)
    while started.poll() is None:
        if share < 1 and sum(1 for _ in Path(folder).glob(f"{NAME}/runs/*/genotype.json")) >= share * runs:
            everybody = processes.family([processes.remembered(started.pid)])
            started.kill()
            for process in everybody:
                processes.kill(process)
        look(folder.encode(), held)
        time.sleep(1.0)
    return started.returncode


if __name__ == "__main__":
    main()
