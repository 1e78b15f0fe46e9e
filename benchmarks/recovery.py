"""Kills rank 0 of a Ray run repeatedly; measures time from a kill to the next new step, lost work, share of commits.

`python -m benchmarks.recovery --kills 20`: one run of two workers on a local Ray cluster, with the intervals of the
slow tests. Results go to benchmarks/results/recovery.json.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

from benchmarks.measure import report
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.run_log import read_log
from tests.orchestration.job import RUN, Job, job_config, until
from tests.orchestration.tiny import EXPERIMENT, is_clean

EPOCHS_PER_KILL = 10


def killed_once(store: LocalStore, job: Job, chance: random.Random) -> float:
    """Kill rank 0 after a few steps; return the seconds until a new step is committed."""
    began = until(store, lambda status: status.step > 0, job).step
    wanted = began + chance.randrange(3, 12)
    status = until(store, lambda status: status.step >= wanted, job)
    assert status.owner is not None
    os.kill(status.owner.pid, signal.SIGKILL)
    killed = time.monotonic()
    until(store, lambda now: now.step > status.step and now.claims > status.claims, job)
    return time.monotonic() - killed


def main() -> None:
    """Print and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    overrides = (f"search.epochs={EPOCHS_PER_KILL * arguments.kills}", "operation.max_failures=1000")
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder) / "store")
        job = Job(store, 1, overrides, {}, Path(folder) / "log")
        seconds = [killed_once(store, job, chance) for _ in range(arguments.kills)]
        job.interrupt()
        code, told = job.end()
        assert code in (0, 130), told
        assert is_clean(store)
        records = [entry.record for entry in read_log(store, RunKeys(EXPERIMENT, RUN))]
    spans = [datetime.fromisoformat(record.written_at).timestamp() for record in records]
    busy = sum(record.commit_seconds or 0.0 for record in records)
    report(
        "recovery",
        job_config(*overrides).model_dump(mode="json"),
        {
            "kills": arguments.kills,
            "kill_to_next_durable_step_s": {"median": median(seconds), "least": min(seconds), "most": max(seconds)},
            "commits": sum(record.kind == "advance" for record in records),
            "committing_thread_s": busy,
            "whole_run_s": spans[-1] - spans[0],
        },
    )


if __name__ == "__main__":
    main()
