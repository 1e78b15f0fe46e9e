"""A sweep on machines that are taken away again and again: Ray's own autoscaler, whose nodes are processes here.

    python -m benchmarks.spot [--runs 8] [--nodes 2] [--every 20]

Every `--every` seconds on average (exponential) one of the living worker nodes is killed as a whole, until the sweep
ends. Prints what it cost: preemptions and failures, starts, and the share of the workers' time that is in the logs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import threading
import time
from contextlib import suppress

from ray_darts.artifacts.histories import read_histories
from ray_darts.report.costs import phase_cost
from tests.cluster.local_cluster import LocalCluster, local_cluster

NAME = "reclaimed"
SETTINGS = ("space.channels=4", "data.fraction=0.5", "operation.commit_every_s=1", "search.epochs=4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--every", type=float, default=20.0)
    given = parser.parse_args()
    with local_cluster("--autoscale", str(given.nodes), "--cpus", "1", "--idle-s", "60") as cluster:
        words = ["--installed", "--preset", "digits", "--", "--name", NAME, "--seeds", str(given.runs)]
        words += ["--orders", "first", "--workers", "1", "--max-concurrent", str(given.nodes)]
        words += [word for setting in SETTINGS for word in ("--set", setting)]
        ended, killed = threading.Event(), list[float]()
        began = time.monotonic()
        reclaimer = threading.Thread(target=reclaim, args=(cluster, given.every, ended, killed), daemon=True)
        with cluster.submitted(*words) as (followed, submission_id):
            reclaimer.start()
            code = followed.wait()
        ended.set()
        reclaimer.join()
        wall_s = time.monotonic() - began
        statuses = cluster.status(NAME)
        cost = phase_cost("search", NAME, read_histories(cluster.folder_store, NAME))
        whole = cost.worker_s + cost.lost_or_waiting_worker_s
        result = {
            "exit_code": code,
            "wall_s": round(wall_s),
            "nodes_killed": len(killed),
            "states": sorted(status.state for status in statuses),
            "claims": sum(status.claims for status in statuses),
            "preemptions": sum(status.preemptions for status in statuses),
            "failures": sum(status.failures for status in statuses),
            "per_run": {run.run: [run.claims, run.preemptions, run.failures] for run in statuses},
            "worker_s": round(cost.worker_s),
            "lost_or_waiting_worker_s": round(cost.lost_or_waiting_worker_s),
            "share_in_the_logs": round(cost.worker_s / whole, 3) if whole else None,
            "problems": cluster.problems(NAME),
        }
        print(json.dumps(result, indent=2))
        if code:
            print(cluster.log_of(submission_id)[-4000:])


def reclaim(cluster: LocalCluster, every_s: float, ended: threading.Event, killed: list[float]) -> None:
    """Kill a living node, all of its processes in one blow, at exponential intervals until the sweep has ended."""
    draws = random.Random(0)
    while not ended.wait(draws.expovariate(1 / every_s)):
        nodes = cluster.worker_nodes()
        if nodes:
            for process in draws.choice(nodes):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            killed.append(time.monotonic())


if __name__ == "__main__":
    main()
