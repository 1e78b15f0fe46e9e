"""One run as Ray Tune sees it: a function that fits a TorchTrainer and turns every ending into a value.

What Tune retries is therefore a lost process and nothing else. Every name carries digest, session and attempt, so
Ray never resumes anything by itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from uuid import uuid4

from ray.exceptions import RayError
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError
from ray.train.v2.torch.torch_trainer import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from ray_darts.config import Operation
from ray_darts.orchestration.assignment import Assignment
from ray_darts.orchestration.interfaces import ProcessGroupConfig
from ray_darts.orchestration.logs import log_for
from ray_darts.orchestration.outcome import Outcome
from ray_darts.orchestration.ray_storage import RAY_PATH, ray_filesystem
from ray_darts.orchestration.run_queue import ASSIGNMENT
from ray_darts.orchestration.stop_signal import stop_asked
from ray_darts.orchestration.worker import run_worker

logger = logging.getLogger("ray_darts.orchestration")

OUTCOME = "outcome"
_ELASTIC_START_TIMEOUT_S = 60.0
_ELASTIC_START_ATTEMPTS = 100


def run_trial(config: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """Ray Tune's trainable; returns an Outcome as plain data under OUTCOME."""
    assignment = Assignment.from_plain(config[ASSIGNMENT])
    log_for(assignment)
    return {OUTCOME: _fit(assignment).to_plain()}


def _fit(assignment: Assignment) -> Outcome:
    reason = stop_asked(assignment.session.uuid)
    if reason is not None:
        return Outcome.from_plain({"kind": reason, "detail": "ended before the run began", "step": 0})
    os.environ.update(train_environment(assignment.config.operation))
    try:
        returned: object = getattr(_trainer(assignment).fit(), "return_value", None)
    except WorkerGroupError as error:
        ranks = ", ".join(str(rank) for rank in sorted(error.worker_failures))
        logger.error(
            "ranks %s were lost more than %d times: %s", ranks, assignment.config.operation.max_failures, error
        )
        limit = assignment.config.operation.max_failures
        return Outcome("lost", f"ranks {ranks} died more than {limit} times (operation.max_failures), at last: {error}")
    except TrainingFailedError as error:
        logger.error("Ray Train gave up: %s", error)
        return Outcome("lost", str(error))
    except RayError:
        raise
    except Exception as error:
        logger.exception("the run could not be started")
        return Outcome("error", f"{type(error).__name__}: {error}")
    assert isinstance(returned, Mapping)
    return Outcome.from_plain(returned)


def train_environment(operation: Operation) -> dict[str, str]:
    """Ray Train's limits as it reads them, in the process that calls fit.

    An elastic group starts with what Ray believes is there, which just after a node's loss is too much for some
    seconds: it must find out soon, while a fixed group may wait for an autoscaler.
    """
    start_timeout_s = operation.worker_start_timeout_s
    if is_elastic(operation):
        start_timeout_s = min(start_timeout_s, _ELASTIC_START_TIMEOUT_S)
    return {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(operation.health_check_interval_s),
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(operation.collective_timeout_s),
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(start_timeout_s),
        "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": str(operation.collective_timeout_s),
        "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": str(operation.health_check_interval_s),
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    }


def is_elastic(operation: Operation) -> bool:
    """Whether the number of workers may change while a run goes on."""
    lowest, highest = operation.worker_range
    return lowest != highest


def _trainer(assignment: Assignment) -> TorchTrainer:
    config, operation = assignment.config, assignment.config.operation
    lowest, highest = operation.worker_range
    start_attempts = _ELASTIC_START_ATTEMPTS if is_elastic(operation) else operation.start_attempts
    resources = {"CPU": float(operation.cpus_per_worker)}
    if assignment.device == "cuda":
        resources["GPU"] = 1.0
    return TorchTrainer(
        run_worker,
        train_loop_config=assignment.to_plain(),
        torch_config=ProcessGroupConfig(timeout_s=int(operation.collective_timeout_s)),
        scaling_config=ScalingConfig(
            num_workers=(lowest, highest) if is_elastic(operation) else lowest,
            use_gpu=assignment.device == "cuda",
            resources_per_worker=resources,
            placement_strategy=operation.placement,
            elastic_resize_monitor_interval_s=operation.resize_check_s,
        ),
        run_config=RunConfig(
            name=f"{assignment.run}-{config.digest()[:8]}-{assignment.session.uuid[:8]}-{uuid4().hex[:8]}",
            storage_path=RAY_PATH,
            storage_filesystem=ray_filesystem(),
            failure_config=FailureConfig(
                max_failures=operation.max_failures, controller_failure_limit=start_attempts - 1
            ),
            callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call]
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
