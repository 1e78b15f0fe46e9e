"""Leaves a Ray cluster; of one that this process started, removes the folder of its session (logs, sockets, spilled
objects), which Ray keeps for ever below its temporary folder. Touches no other session.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from ray_darts.errors import ClusterError
from ray_darts.orchestration.ray_internals import own_session_folder

logger = logging.getLogger("ray_darts.orchestration")


@contextmanager
def leaving_cluster(is_own: bool) -> Iterator[None]:
    """Leave the cluster after the block; `is_own`: this process started it, so it ends and its folder is removed.

    After a ClusterError the folder stays, since Ray's logs may say why.
    """
    folder = own_session_folder() if is_own else None
    try:
        yield
    except ClusterError:
        if folder is not None:
            logger.warning("Ray's logs of this command are kept: %s", folder / "logs")
        folder = None
        raise
    finally:
        ray.shutdown(wait_for_processes=folder is not None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # a last process may still write; what it leaves is empty
