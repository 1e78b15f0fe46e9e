"""Ray's own autoscaler with nodes that are processes: up from nothing for a sweep, past a lost node, down again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from ray_darts.artifacts.status import RunStatus
from tests.cluster.local_cluster import PATIENCE_S, LocalCluster, local_cluster, wait_until
from tests.cluster.test_jobs_on_a_cluster import tiny


def searching(cluster: LocalCluster) -> list[RunStatus]:
    """Runs that have committed something and are not done."""
    return [run for run in cluster.status("grown") if run.state == "searching" and run.step > 0]


def lose_node_of(cluster: LocalCluster, run: RunStatus) -> None:
    """Take away, in one blow, the machine that a run's first rank is on."""
    assert run.owner is not None
    [node] = [node for node in cluster.worker_nodes() if run.owner.pid in {process.pid for process in node}]
    for process in node:
        os.kill(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_sweep_brings_nodes_up_survives_losing_one_and_leaves_none(
    record_property: Callable[[str, object], None],
) -> None:
    with local_cluster("--autoscale", "2", "--cpus", "1", "--idle-s", "20") as cluster:
        assert cluster.num_nodes() == 1
        # The nodes share this machine's session folder, so no working directory is unpacked there: see the README.
        words = ["--installed", "--preset", "digits", "--", "--name", "grown", "--seeds", "2", "--workers", "1"]
        words += tiny("search.epochs=8", "operation.commit_every_s=1", "operation.max_concurrent=2")
        began = time.monotonic()
        with cluster.submitted(*words) as (followed, submission_id):

            def ended() -> bool:
                return followed.poll() is not None

            wait_until(lambda: cluster.num_nodes() == 3, "two nodes are added", ended)
            record_property("two_nodes_up_s", time.monotonic() - began)
            wait_until(lambda: bool(searching(cluster)), "a run is in the middle", ended)
            lose_node_of(cluster, searching(cluster)[0])
            assert followed.wait(timeout=PATIENCE_S) == 0, cluster.log_of(submission_id)
        record_property("sweep_s", time.monotonic() - began)
        done = time.monotonic()
        wait_until(lambda: cluster.num_nodes() == 1, "the idle nodes are removed")
        wait_until(lambda: not cluster.worker_nodes(), "the processes of the removed nodes are gone")
        record_property("no_nodes_left_s", time.monotonic() - done)
        runs = cluster.status("grown")
        assert [run.state for run in runs] == ["finished"] * 4
        assert max(run.claims for run in runs) > 1  # the lost node's run was claimed again
        assert cluster.problems("grown") == []
