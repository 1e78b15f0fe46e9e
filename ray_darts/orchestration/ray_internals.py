"""Every import from a private module of Ray, in one place; no other file of the package imports one.

Read in Ray 2.60. With another version, check here first: each name below may have moved or changed without notice.
`ray.train.v2` is what `ray.train` exports at run time; its types are only seen through these paths.
"""

from __future__ import annotations

from ray._private.state import state
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.torch.config import TorchConfig, _TorchBackend
from ray.train.v2._internal.exceptions import (
    RayTrainError,
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
)
from ray.train.v2.api.callback import UserCallback
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

__all__ = [
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
    "UserCallback",
    "WorkerGroupError",
    "cause_of",
    "cluster_state",
    "kv_delete",
    "kv_get",
    "kv_put",
]


def cause_of(error: Exception) -> BaseException:
    """What a worker raised, or Ray's reason for its death, of an exception that Ray Train's controller reports."""
    if isinstance(error, UserExceptionWithTraceback):
        return error._base_exc
    return error.health_check_failure if isinstance(error, WorkerHealthCheckFailedError) else error
