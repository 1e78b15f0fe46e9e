"""Ray's own autoscaler with nodes that are processes: up from nothing for a sweep, past a lost node, down again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.cluster.local_cluster import PATIENCE_S, local_cluster, wait_until
from tests.cluster.test_jobs_on_a_cluster import tiny


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_sweep_brings_nodes_up_survives_losing_one_and_leaves_none(
    record_property: Callable[[str, object], None],
) -> None:
    with local_cluster("--autoscale", "2", "--cpus", "1", "--idle-s", "20") as cluster:
        assert cluster.num_nodes() == 1
        # The nodes share this machine's session folder, so no working directory is unpacked there: see the README.
        words = ["--installed", "--preset", "digits", "--", "--name", "grown", "--seeds", "2", "--workers", "1"]
        words += tiny("search.epochs=3", "operation.commit_every_s=1", "operation.max_concurrent=2")
        began = time.monotonic()
        with cluster.submitted(*words) as (followed, submission_id):

            def ended() -> bool:
                return followed.poll() is not None

            wait_until(lambda: cluster.num_nodes() == 3, "two nodes are added", ended)
            record_property("two_nodes_up_s", time.monotonic() - began)
            wait_until(lambda: any(run.step > 0 for run in cluster.status("grown")), "a first commit", ended)
            lost = cluster.worker_raylets()[0]
            os.kill(lost.pid, signal.SIGKILL)
            assert followed.wait(timeout=PATIENCE_S) == 0, cluster.log_of(submission_id)
        record_property("sweep_s", time.monotonic() - began)
        done = time.monotonic()
        wait_until(lambda: cluster.num_nodes() == 1, "the idle nodes are removed")
        wait_until(lambda: not cluster.worker_raylets(), "the processes of the removed nodes are gone")
        record_property("no_nodes_left_s", time.monotonic() - done)
        runs = cluster.status("grown")
        assert [run.state for run in runs] == ["finished"] * 4
        assert max(run.claims for run in runs) > 1  # the lost node's run was claimed again
        assert cluster.problems("grown") == []
