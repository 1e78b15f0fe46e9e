"""How often the driver of a worker group was lost: with its machine, or as a process.

Ray Tune starts a lost trial again without limit; each attempt says which node it runs on, and the next one decides. So
a machine that is taken away with the drivers on it counts as little as one with workers.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ray import tune
from ray.exceptions import RayError
from ray.tune.experiment import Trial

from ray_darts.config import OperationSettings
from ray_darts.orchestration.assignment import ASSIGNMENTS
from ray_darts.orchestration.starts import KeptAttempts, RunStarts

logger = logging.getLogger("ray_darts.orchestration")


@dataclass(frozen=True)
class Attempt:
    """`node`: its id; `step`: the sum of the runs' durable steps when it began."""

    node: str
    step: int


def begin_attempt(session: str, runs: Sequence[str], node: str, living: Collection[str]) -> list[Attempt]:
    """Say that an attempt begins on `node`, and tell the runs how the one before it ended; the earlier attempts.

    `living`: ids of the nodes that live. Raises what Ray raises.
    """
    kept, starts = KeptAttempts(session, runs[0]), [RunStarts(session, run) for run in runs]
    earlier = [Attempt(*_read(text)) for text in kept.all()]
    kept.add(f"{node} {sum(each.step() for each in starts)}")
    if earlier:
        for each in starts:
            each.report_end("process" if earlier[-1].node in living else "node")
    return earlier


def one_too_many(
    earlier: Sequence[Attempt], step: int, living: Collection[str], limits: OperationSettings
) -> str | None:
    """Why another attempt is not made, None where it is; `step`: durable now."""
    failures = sum(attempt.node in living for attempt in earlier)
    if failures > limits.max_failures:
        return f"its trial process died more than {limits.max_failures} times (operation.max_failures)"
    preemptions = len(earlier) - failures
    if limits.max_preemptions is not None and preemptions > limits.max_preemptions:
        return f"the machine of its trial was lost more than {limits.max_preemptions} times (operation.max_preemptions)"
    idle = sum(attempt.step == step for attempt in earlier)
    if idle > limits.max_idle_preemptions:
        return f"its trial was lost {idle} times before anything was committed (operation.max_idle_preemptions)"
    return None


def _read(text: str) -> tuple[str, int]:
    node, _, step = text.partition(" ")
    return node, int(step)


class UnstartedTrials(tune.Callback):
    """Ends a trial whose process is lost again and again before it begins an attempt, as where our package is missing.

    Called by Ray Tune in the command's process, which restarts trials without limit.
    """

    def __init__(self, session: str, max_failures: int) -> None:
        self._session, self._max_failures = session, max_failures

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Called after each loss of a trial that is to be started again."""
        try:
            begun = len(KeptAttempts(self._session, trial.config[ASSIGNMENTS][0]["run"]).all())
        except (RayError, RuntimeError, ConnectionError) as error:
            logger.info("the attempts of a trial cannot be read now: %s", error)
            return
        if trial.num_failures - begun > self._max_failures:
            trial.max_failures = 0  # the next loss is the last
