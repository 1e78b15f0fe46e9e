"""A worker group's runs as Ray Tune executes them: a function that fits a TorchTrainer; each run ends as a RunOutcome.

So Tune retries a lost process and nothing else. Every name contains digest, session and attempt, so that Ray never
resumes anything by itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from uuid import uuid4

import fsspec
import pyarrow.fs
import ray
from ray.exceptions import RayError

from ray_darts.config import OperationSettings
from ray_darts.orchestration.assignment import ASSIGNMENTS, Assignment, RunOutcome, outcome_of
from ray_darts.orchestration.attempts import begin_attempt, one_too_many
from ray_darts.orchestration.interfaces import ProcessGroupConfig
from ray_darts.orchestration.losses import describe_loss
from ray_darts.orchestration.ray_internals import (
    LoggingConfig,
    PolicyTrainer,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    TuneReports,
)
from ray_darts.orchestration.resources import living_nodes, run_demand
from ray_darts.orchestration.restarts import Members, RestartLimits, RestartPolicy
from ray_darts.orchestration.runtime_hooks import read_stop_request
from ray_darts.orchestration.starts import RunStarts
from ray_darts.orchestration.telemetry import start_run_log

logger = logging.getLogger("ray_darts.orchestration")

OUTCOMES = "outcomes"
"""The key of {run: RunOutcome as plain data} in what a trial returns."""

RAY_PATH = "/ray"
"""`storage_path` of Ray's RunConfig, in `ray_filesystem`."""

_ELASTIC_START_TIMEOUT_S = 60.0
_ELASTIC_START_ATTEMPTS = 100


def run_trial(config: Mapping[str, Sequence[Mapping[str, object]]]) -> dict[str, object]:
    """Ray Tune's trainable for the runs of ASSIGNMENTS; returns {OUTCOMES: …}. Raises: RayError (a lost cluster)."""
    plain = config[ASSIGNMENTS]
    try:
        returned = _fit(plain)
    except RayError:
        raise
    except Exception as error:
        logger.exception("the run could not be started")
        returned = outcome_of(error)
    if isinstance(returned, RunOutcome):
        return {OUTCOMES: {run["run"]: returned.to_plain() for run in plain}}
    return {OUTCOMES: dict(returned)}


def start_worker(settings: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    """`run_worker`, imported on the worker alone: a trial needs no PyTorch."""
    from ray_darts.orchestration.worker import run_worker

    return run_worker(settings)


def _fit(plain: Sequence[Mapping[str, object]]) -> RunOutcome | Mapping[str, object]:
    """What rank 0 returned, or the outcome that all runs share."""
    assignments = [Assignment.from_plain(each) for each in plain]
    assignment = assignments[0]
    start_run_log(assignment)
    reason = read_stop_request(assignment.session.uuid)
    if reason is not None:
        return RunOutcome(reason, "ended before the run began")
    operation = assignment.config.operation
    lost = _lost_too_often(assignments)
    if lost is not None:
        return RunOutcome("lost", lost)
    os.environ.update(train_environment(operation))
    try:
        returned: object = getattr(_trainer(assignments, plain).fit(), "return_value", None)
    except TrainingFailedError as error:
        logger.error("Ray Train gave up: %s", error)
        given_up = f"Ray Train gave up: {describe_loss(getattr(error, 'controller_failure', error))}"
        return RunOutcome("lost", RunStarts(assignment.session.uuid, assignment.run).reason() or given_up)
    if not isinstance(returned, Mapping):
        return RunOutcome("error", f"Ray Train returned {returned!r} instead of the outcomes of rank 0")
    return returned


def _lost_too_often(assignments: Sequence[Assignment]) -> str | None:
    """Begin an attempt of this trial; why it is one too many, None where it is not. Raises: RayError."""
    session, runs = assignments[0].session.uuid, [each.run for each in assignments]
    living = {str(node["NodeID"]) for node in living_nodes()}
    earlier = begin_attempt(session, runs, ray.get_runtime_context().get_node_id(), living)
    step = sum(RunStarts(session, run).step() for run in runs)
    return one_too_many(earlier, step, living, assignments[0].config.operation)


def ray_filesystem() -> pyarrow.fs.FileSystem:
    """Where Ray keeps its own files: in the memory of the process that writes them; empty in every new process.

    Ray is given no checkpoints and never resumes anything: a run continues from its log. What is left (a marker that
    Ray reads right after writing it, and Tune's view of its trials) is read by its writer alone. So a store that does
    not answer cannot end a search through Ray, and no bucket holds a pickle.
    """
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fsspec.filesystem("memory")))


def train_environment(operation: OperationSettings) -> dict[str, str]:
    """Ray Train's limits as it reads them, in the process that calls fit.

    An elastic group starts with as many workers as Ray counts, and for some seconds after a node's loss it counts too
    many: the start must time out soon. A fixed group may wait for an autoscaler.
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


def is_elastic(operation: OperationSettings) -> bool:
    """Whether the number of workers may change while a run goes on."""
    lowest, highest = operation.worker_range
    return lowest != highest


def _trainer(assignments: Sequence[Assignment], plain: Sequence[Mapping[str, object]]) -> PolicyTrainer:
    assignment = assignments[0]
    config, operation = assignment.config, assignment.config.operation
    lowest, highest = operation.worker_range
    start_attempts = _ELASTIC_START_ATTEMPTS if is_elastic(operation) else operation.start_attempts
    session = assignment.session.uuid
    limits = RestartLimits.of(operation, len(assignments), start_attempts - 1)
    return PolicyTrainer(
        RestartPolicy(limits, session, [RunStarts(session, each.run) for each in assignments]),
        train_loop_per_worker=start_worker,
        train_loop_config={ASSIGNMENTS: [dict(each) for each in plain]},
        backend_config=ProcessGroupConfig(timeout_s=int(operation.collective_timeout_s)),
        scaling_config=ScalingConfig(
            num_workers=(lowest, highest) if is_elastic(operation) else lowest,
            use_gpu=assignment.device == "cuda",
            resources_per_worker=dict(run_demand(operation, assignment.device).worker),
            placement_strategy=operation.placement,
            elastic_resize_monitor_interval_s=operation.resize_check_s,
        ),
        run_config=RunConfig(
            name=f"{assignment.run}-{config.digest()[:8]}-{session[:8]}-{uuid4().hex[:8]}",
            storage_path=RAY_PATH,
            storage_filesystem=ray_filesystem(),
            callbacks=[
                TuneReports(),
                Members(),  # type: ignore[list-item]  # Ray takes its own kinds of callbacks here, too
            ],
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
