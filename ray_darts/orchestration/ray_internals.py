"""Every use of a private module of Ray, in one place; no other file of the package imports one.

Imports no PyTorch: what needs it is imported by functions that workers call. Read in Ray 2.60. With another version,
check here first: each name below may have moved or changed without notice.
`ray.train.v2` is what `ray.train` exports at run time; its types are only seen through these paths.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray._common.utils import get_default_ray_temp_dir
from ray._private import worker
from ray._private.gcs_utils import create_gcs_channel
from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
from ray._private.runtime_env.packaging import _dir_travel
from ray._private.services import canonicalize_bootstrap_address
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]
from ray.exceptions import RayTaskError
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_list, _internal_kv_put
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train._internal.session import get_session
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.callbacks.preemption_callback import PreemptionCallback
from ray.train.v2._internal.exceptions import (
    RayTrainError,
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
)
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling import FailureDecision, FailurePolicy
from ray.train.v2._internal.execution.failure_handling.default import RETRYABLE_CONTROLLER_ERRORS
from ray.train.v2._internal.execution.preemption import PreemptionWatcher
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2.api.callback import RayTrainCallback, UserCallback
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, TrainingFailedError, WorkerGroupError

RAY_VERSION = "2.60"
"""The version that these names were read in."""

CHECK_HEAD, CHECK_CLIENT_SERVER = "/ray.rpc.NodeInfoGcsService/CheckAlive", "/ray.rpc.RayletDriver/ClusterInfo"
"""gRPC methods of the head and of the server behind `ray://`, which any request calls without effect."""

SOCKET_PATH = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1"
"""The longest path that Ray appends to its temporary folder for a unix socket."""

RAY_THREADS = "ray_"
"""How the names of the threads begin in which Ray prints on its own account (`ray_listen_error_messages`)."""

TRIAL_CLASS = "ImplicitFunc"
"""The class of Ray Tune's actors that run a function; ours reserve the places of a worker group."""

MAX_UPLOAD_BYTES: int = DASHBOARD_CLIENT_MAX_SIZE
"""The largest archive that a job server takes; it answers more with 413."""

RETRYABLE_STARTS = RETRYABLE_CONTROLLER_ERRORS
"""What Ray raises where a worker group did not come up."""

cluster_state = state
kv_delete, kv_get, kv_keys, kv_put = _internal_kv_del, _internal_kv_get, _internal_kv_list, _internal_kv_put

__all__ = [
    "CHECK_CLIENT_SERVER",
    "CHECK_HEAD",
    "MAX_UPLOAD_BYTES",
    "RAY_THREADS",
    "RETRYABLE_STARTS",
    "SOCKET_PATH",
    "TRIAL_CLASS",
    "Backend",
    "BackendConfig",
    "BaseWorkerGroup",
    "ControllerError",
    "FailureConfig",
    "FailureDecision",
    "FailurePolicy",
    "LoggingConfig",
    "PolicyTrainer",
    "PreemptionError",
    "RayTrainError",
    "RunConfig",
    "ScalingConfig",
    "TrainingFailedError",
    "TuneReports",
    "WorkerGroup",
    "WorkerGroupCallback",
    "WorkerGroupError",
    "canonicalize_bootstrap_address",
    "cause_of",
    "cluster_state",
    "create_gcs_channel",
    "get_address_and_port",
    "get_default_ray_temp_dir",
    "has_died",
    "join_process_group",
    "kv_delete",
    "kv_get",
    "kv_keys",
    "kv_put",
    "leave_process_group",
    "own_device",
    "own_session_folder",
    "placement_groups_of_dead_actors",
    "set_rank_variables",
    "visit_folder",
]


def placement_groups_of_dead_actors(job_id: str, class_name: str) -> list[str]:
    """Ids of the groups that actors of this class and job, dead by now, have reserved; Ray frees them with the job.

    Detached groups, which are meant to outlive their makers, are left out.
    """
    accessor = state._connect_and_get_accessor()
    groups = [PlacementGroupTableData.FromString(plain) for plain in accessor.get_placement_group_table()]
    return [
        group.placement_group_id.hex()
        for group in groups
        if group.creator_job_id.hex() == job_id
        and group.creator_actor_dead
        and not group.is_detached
        and group.state != PlacementGroupTableData.REMOVED
        and state.actor_table(group.creator_actor_id.hex()).get("ActorClassName") == class_name
    ]


class PolicyTrainer(DataParallelTrainer):
    """A trainer whose controller asks `policy` whether it starts a worker group again, and runs in this process.

    By itself Ray starts up to five processes beside each trial, which import Ray for two CPU seconds each: the
    controller, a queue to Ray Tune, a manager of Ray's data sets, a watcher for notices, here a thread, and a cleaner,
    whose work `placement_groups_of_dead_actors` allows the driver to do for all runs. So what Ray's data sets and
    checkpoints offer in workers (`ray.train.get_dataset_shard`, `get_all_reported_checkpoints`) is not there.
    """

    def __init__(self, policy: FailurePolicy, **settings: Any) -> None:
        super().__init__(**settings)
        self._policy = policy

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        unused = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unused)]

    def _initialize_and_run_controller(self, **controller_init_kwargs: Any) -> Any:
        controller = TrainController(**{**controller_init_kwargs, "failure_policy": self._policy})
        callbacks = controller._worker_group_callbacks_to_propagate
        for number, callback in enumerate(callbacks):
            if isinstance(callback, PreemptionCallback):
                callbacks[number] = _Notices(callback._poll_interval_s)
        asyncio.run(controller.run())  # type: ignore[no-untyped-call]
        return controller.get_result()


class _Notices(WorkerGroupCallback):
    """Tells workers of a notice that their machine will go: Ray's own watcher, as a thread of this process."""

    def __init__(self, poll_interval_s: float) -> None:
        self._poll_interval_s = poll_interval_s
        self._watcher: PreemptionWatcher | None = None

    def after_worker_group_start(self, worker_group: WorkerGroup) -> None:
        self._stop()
        nodes: dict[str, list[int]] = {}
        actors: dict[int, Any] = {}
        for member in worker_group.get_workers():
            assert member.distributed_context is not None, "Ray sets it before this call"
            rank = member.distributed_context.world_rank
            nodes.setdefault(member.metadata.node_id, []).append(rank)
            actors[rank] = member.actor
        self._watcher = PreemptionWatcher(nodes, self._poll_interval_s, actors)

    def before_worker_group_shutdown(self, worker_group: WorkerGroup) -> None:
        self._stop()

    def after_worker_group_abort(self, worker_group_context: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._watcher is not None:
            self._watcher._stop_event.set()
        self._watcher = None


class TuneReports(UserCallback):
    """Hands what rank 0 reports to Ray Tune, as a function trainable does; for a controller within a trial.

    Ray's `TuneReportCallback` does it by an actor, for a controller in another process.
    """

    def after_report(self, run_context: object, metrics: list[dict[str, object]], checkpoint: object) -> None:
        """Called by the controller with what all ranks have reported; returns when Ray Tune has taken it."""
        session: Any = get_session()
        session.report(dict(metrics[0]))


def set_rank_variables() -> None:
    """Put rank, world size and so on into the environment of this worker, as PyTorch names them."""
    from ray.train.torch.config import _set_torch_distributed_env_vars

    _set_torch_distributed_env_vars()  # type: ignore[no-untyped-call]


def join_process_group(backend: str, rank: int, world_size: int, timeout_s: int) -> None:
    """Start the default process group in this worker; MASTER_ADDR and MASTER_PORT name rank 0."""
    from ray.train.torch.config import _setup_torch_process_group

    _setup_torch_process_group(backend, rank, world_size, "env://", timeout_s)


def leave_process_group() -> None:
    """End the default process group in this worker, and give back what its GPU's allocator keeps."""
    import torch.distributed as dist
    from ray.train.torch.config import _shutdown_torch

    grouped = dist.is_initialized() and dist.get_world_size() > 1
    _shutdown_torch(destroy_process_group=grouped)  # type: ignore[no-untyped-call]


class own_device:
    """Makes the GPU that Ray gave to this worker the current one while the block runs; nothing where there is none."""

    def __enter__(self) -> None:
        from ray.train.torch.config import TorchConfigContextManager

        TorchConfigContextManager().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *_: object) -> None: ...


def has_died(actor_id: str) -> bool:
    """Whether Ray has declared an actor dead; `actor_id` in hex."""
    return bool(state.actor_table(actor_id).get("State") == "DEAD")


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


def cause_of(error: BaseException) -> BaseException:
    """What a process raised, or Ray's reason for its death, of the exception in which Ray reports it."""
    inner: BaseException | None = None
    if isinstance(error, UserExceptionWithTraceback):
        inner = error._base_exc
    elif isinstance(error, WorkerHealthCheckFailedError):
        inner = error.health_check_failure
    elif isinstance(error, RayTaskError):
        inner = error.cause
    return cause_of(inner) if isinstance(inner, BaseException) else error
