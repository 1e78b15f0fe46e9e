"""Whether Ray Train starts a worker group again: lost machines and lost processes are counted apart.

Asked by Ray Train's controller, in place of Ray's own policy, which counts a machine that was taken away without a
notice like a crash. A machine that goes is nobody's fault: such starts are repeated without limit unless the config
sets one, after a pause where they come to nothing, and until too many in a row have made no step durable.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ray_darts.artifacts.records import EndKind
from ray_darts.config import OperationSettings
from ray_darts.orchestration.losses import describe_loss, ended_by_itself, first_cause
from ray_darts.orchestration.ray_internals import (
    RETRYABLE_STARTS,
    ControllerError,
    FailureConfig,
    FailureDecision,
    FailurePolicy,
    PreemptionError,
    TrainingFailedError,
    WorkerGroup,
    WorkerGroupCallback,
    WorkerGroupError,
    cause_of,
    has_died,
)
from ray_darts.orchestration.resources import answers, living_nodes
from ray_darts.orchestration.runtime_hooks import read_stop_request
from ray_darts.orchestration.starts import RunStarts

logger = logging.getLogger("ray_darts.orchestration")

_PATIENCE_S, _GRACE_S = 30.0, 3.0
"""How long the end of a start waits for Ray to notice a dead machine: its health checks take so long; and where a
worker is known to have died on a machine that lives, which may just be shutting down."""
_LOOK_EVERY_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0

_members: dict[str, str] = {}
"""{actor id: node id} of the workers that this process has started last. Ray sends the callback to the workers,
too, so it holds nothing itself."""


@dataclass(frozen=True)
class RestartLimits:
    """None: no limit. `failures`: lost processes; `preemptions`: lost machines; `idle_preemptions`: lost machines in a
    row without a durable step in between; `failed_starts`: worker groups in a row that did not come up."""

    failures: int
    preemptions: int | None
    idle_preemptions: int
    failed_starts: int

    @classmethod
    def of(cls, operation: OperationSettings, num_runs: int, failed_starts: int) -> RestartLimits:
        """Those of the config for a worker group of `num_runs` runs."""
        preemptions = operation.max_preemptions
        return cls(
            failures=operation.max_failures * num_runs,
            preemptions=None if preemptions is None else preemptions * num_runs,
            idle_preemptions=operation.max_idle_preemptions,
            failed_starts=failed_starts,
        )


class Members(WorkerGroupCallback):
    """Remembers in the trial which nodes the present workers run on."""

    def after_worker_group_start(self, worker_group: WorkerGroup) -> None:
        """Called by Ray Train once all workers of a start are up."""
        _members.clear()
        for worker in worker_group.get_workers():
            _members[worker.actor._actor_id.hex()] = worker.metadata.node_id


class RestartPolicy(FailurePolicy):
    """Decides for the runs of one worker group; `session`: whose stop request ends a pause."""

    def __init__(self, limits: RestartLimits, session: str, starts: Sequence[RunStarts]) -> None:
        super().__init__(FailureConfig())
        self._limits, self._session, self._starts = limits, session, tuple(starts)
        self._failures = self._preemptions = self._idle = self._failed_starts = 0
        self._step = 0

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        """Count what was lost, say so to the runs' next start, and pause before a start that may come to nothing."""
        error = training_failed_error
        if isinstance(error, ControllerError):
            self._failed_starts += 1
            again = isinstance(error.controller_failure, RETRYABLE_STARTS)
            return _decision(again and self._failed_starts <= self._limits.failed_starts)
        self._failed_starts = 0
        kind = kind_of_loss(error)
        for starts in self._starts:
            starts.report_end(kind)
        reason = self._count_preemption() if kind == "node" else self._count_failure(error)
        if reason is not None:
            logger.error("not started again: %s", reason)
            for starts in self._starts:
                starts.report_reason(reason)
        elif kind == "node" and self._idle:
            self._pause(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (self._idle - 1)))
        return _decision(reason is None)

    def _count_failure(self, error: TrainingFailedError) -> str | None:
        """Why a lost process is one too many; None where it is not."""
        self._failures += 1
        limit = self._limits.failures
        if self._failures <= limit:
            return None
        failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
        ranks = ", ".join(str(rank) for rank in sorted(failures))
        last = describe_loss(first_cause(failures.values()) or error)
        return f"ranks {ranks} died more than {limit} times (operation.max_failures), at last: {last}"

    def _count_preemption(self) -> str | None:
        """Why a lost machine is one too many; None where it is not."""
        step = sum(starts.step() for starts in self._starts)
        self._preemptions += 1
        self._idle = self._idle + 1 if step <= self._step else 0
        self._step = step
        limits = self._limits
        if limits.preemptions is not None and self._preemptions > limits.preemptions:
            return f"machines were lost more than {limits.preemptions} times (operation.max_preemptions)"
        if self._idle > limits.idle_preemptions:
            return (
                f"machines were lost {self._idle} times in a row before anything was committed "
                "(operation.max_idle_preemptions): commit more often (operation.commit_every_s), or use machines that "
                "stay longer"
            )
        return None

    def _pause(self, seconds: float) -> None:
        """Wait before the next start, no longer than until the command asks for a stop."""
        logger.warning("a machine was lost before anything was committed: the next start waits %.0f s", seconds)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and read_stop_request(self._session) is None:
            time.sleep(_LOOK_EVERY_S)


def kind_of_loss(error: TrainingFailedError) -> EndKind:
    """How the last start ended: with a machine, by itself (memory, device), or with a process that something killed."""
    if isinstance(error, PreemptionError):
        return "node"
    failures = error.worker_failures.values() if isinstance(error, WorkerGroupError) else ()
    if any(ended_by_itself(cause_of(failure)) for failure in failures):
        return "itself"
    return "node" if _lost_a_node() else "process"


def _lost_a_node() -> bool:
    """Whether the machine of one of the last workers is gone, by what Ray says in the time that it needs to see it.

    Where a worker's death is known, the machines are asked: Ray on one may have told of it and been killed a moment
    later, and a worker may end by itself as another's machine falls silent.
    """
    began = time.monotonic()
    while _members:
        living = {str(node["NodeID"]): node for node in living_nodes()}
        if any(node not in living for node in _members.values()):
            return True
        known = any(has_died(actor) for actor in _members)
        if time.monotonic() - began >= (_GRACE_S if known else _PATIENCE_S):
            return not all(answers(living[node]) for node in set(_members.values()))
        time.sleep(_LOOK_EVERY_S)
    return False


def _decision(again: bool) -> FailureDecision:
    return FailureDecision.RETRY if again else FailureDecision.RAISE
