"""Leaves a Ray cluster; of one that this process started, removes the folder of its session (logs, sockets, spilled
objects), which Ray keeps for ever below its temporary folder. Touches no other session.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from ray_darts.errors import ClusterLost, RayDartsError, SweepCrashed
from ray_darts.orchestration.ray_internals import own_session_folder

logger = logging.getLogger("ray_darts.orchestration")


@dataclass
class Connection:
    """A connection to Ray.

    `is_own`: this process started the cluster, for this command alone. `keep_logs`: leave Ray's logs of an own cluster
    on the disk; the caller sets it where they say more than the command's output.
    """

    is_own: bool
    keep_logs: bool = False


@contextmanager
def leaving_cluster(connection: Connection) -> Iterator[None]:
    """Leave the cluster after the block; an own one ends, and its folder is removed unless its logs are kept.

    They are kept, too, after an exception that they may explain: any but an error that says all itself.
    """
    folder = own_session_folder() if connection.is_own else None
    try:
        yield
    except BaseException as error:
        says_all = isinstance(error, RayDartsError) and not isinstance(error, ClusterLost | SweepCrashed)
        connection.keep_logs = connection.keep_logs or not says_all
        raise
    finally:
        removed = folder is not None and not connection.keep_logs
        ray.shutdown(wait_for_processes=removed)
        if folder is not None and removed:
            shutil.rmtree(folder, ignore_errors=True)  # a last process may still write; what it leaves is empty
        elif folder is not None:
            logger.warning("Ray's logs of this command are kept: %s", folder / "logs")
