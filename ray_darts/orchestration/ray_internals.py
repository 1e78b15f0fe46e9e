"""Every import from a private module of Ray, in one place; no other file of the package imports one.

Read in Ray 2.60. With another version, check here first: each name below may have moved or changed without notice.
`ray.train.v2` is what `ray.train` exports at run time; its types are only seen through these paths.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ray._private import worker
from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
from ray._private.runtime_env.packaging import _dir_travel
from ray._private.state import state
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.torch.config import TorchConfig, _TorchBackend
from ray.train.v2._internal.exceptions import RayTrainError
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError
from ray.train.v2.torch.torch_trainer import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

RAY_VERSION = "2.60"
"""The version that these names were read in."""

RAY_THREADS = "ray_"
"""How the names of the threads begin in which Ray prints on its own account (`ray_listen_error_messages`)."""

TorchBackend = _TorchBackend
cluster_state = state
kv_delete, kv_get, kv_put = _internal_kv_del, _internal_kv_get, _internal_kv_put

MAX_UPLOAD_BYTES: int = DASHBOARD_CLIENT_MAX_SIZE
"""The largest archive that a job server takes; it answers more with 413."""


def own_session_folder() -> Path | None:
    """Where the cluster that this process has started keeps sockets, logs and spilled objects; None without one."""
    node = worker._global_node
    return None if node is None or not node.is_head() else Path(node.get_session_dir_path())


def visit_folder(folder: Path, leave_out: Callable[[Path], bool]) -> list[Path]:
    """`folder` and all below it that Ray would send: without what `leave_out`, .gitignore and .rayignore exclude."""
    found: list[Path] = []
    quiet = logging.getLogger(f"{__name__}.visit")
    quiet.disabled = True
    _dir_travel(folder, [leave_out], found.append, include_gitignore=True, logger=quiet)
    return found


__all__ = [
    "MAX_UPLOAD_BYTES",
    "RAY_THREADS",
    "BaseWorkerGroup",
    "FailureConfig",
    "LoggingConfig",
    "RayTrainError",
    "RunConfig",
    "ScalingConfig",
    "TorchBackend",
    "TorchConfig",
    "TorchTrainer",
    "TrainingFailedError",
    "TuneReportCallback",
    "WorkerGroupError",
    "cluster_state",
    "kv_delete",
    "kv_get",
    "kv_put",
    "own_session_folder",
    "visit_folder",
]
