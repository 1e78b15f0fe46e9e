"""What the tests of orchestration share: one Ray cluster for the whole session."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster on loopback with four slots, whatever this machine has; sweeps find and use it."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray

    from ray_darts.orchestration.connection import be_quiet

    be_quiet()
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()
