"""What the tests of orchestration share: one Ray cluster for the whole session."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ray_darts.artifacts.objects import ObjectStore
from tests.orchestration.job import Job, StartJob


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Small kernels on several threads wait for each other on a busy machine; records here say one thread, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster on loopback with four slots, whatever this machine has; sweeps find and use it."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray

    from ray_darts.orchestration.connection import reduce_ray_output

    reduce_ray_output()
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture
def start_job(tmp_path: Path) -> Iterator[StartJob]:
    """Start a command on a store, `start_job(store, *overrides, **environment)`; none outlives the test."""
    jobs: list[Job] = []

    def start(store: ObjectStore, *overrides: str, seeds: int = 1, **environment: str) -> Job:
        jobs.append(Job(store, seeds, overrides, environment, tmp_path / f"job{len(jobs)}.log"))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        job.end()
