"""The driver's vigil over a running sweep: Tune on a thread, and here signals, time limits, status and waiting demand.

Never writes to a run's log. What a run ended with comes back from Tune as a value.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError

from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.errors import ClusterLost, StoreError
from ray_darts.orchestration.assignment import Assignment
from ray_darts.orchestration.outcome import Outcome
from ray_darts.orchestration.ray_storage import RAY_PATH, ray_filesystem
from ray_darts.orchestration.resources import HEAD_RESOURCE, cluster_capacity, waiting_demand
from ray_darts.orchestration.run import OUTCOME, run_trial
from ray_darts.orchestration.run_queue import ASSIGNMENT, RunQueue
from ray_darts.orchestration.stop_signal import ask_to_stop, forget_stop
from ray_darts.search.sink import StopReason

logger = logging.getLogger("ray_darts.orchestration")

_OBSERVE_S = 2.0
_TELL_WAITING_S = 30.0
_STOP_GRACE_S = 180.0
_DRIVER_SHARE = 0.001
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Supervisor:
    """Runs assignments of one session; `statuses` are those of all runs that the observer is shown."""

    def __init__(
        self,
        assignments: Sequence[Assignment],
        num_concurrent: int,
        statuses: Sequence[RunStatus],
        observer: Callable[[list[RunStatus]], None],
    ) -> None:
        self._assignments, self._num_concurrent, self._observer = assignments, num_concurrent, observer
        self._statuses = {status.run: status for status in statuses}
        self._first = assignments[0]
        self._store = open_store(self._first.store_uri, self._first.config.store)
        self._queue = RunQueue(assignments, lambda: self._reason is not None)
        self._reason: StopReason | None = None
        self._asked_at: float | None = None
        self._outcomes: dict[str, Outcome] = {}
        self._crash: Exception | None = None
        self._worker_s = 0.0
        self._told_waiting = time.monotonic()

    def run(self) -> dict[str, Outcome]:
        """Return each assignment's outcome. Raises: ClusterLost."""
        began = time.monotonic()
        tuning = threading.Thread(target=self._tune, daemon=True, name="tune")
        with self._signals():
            tuning.start()
            try:
                while tuning.is_alive() and not self._patience_is_over():
                    tuning.join(_OBSERVE_S)
                    self._look(began)
            finally:
                forget_stop(self._first.session.uuid)
        if self._crash is not None:
            raise ClusterLost(
                f"Ray ended before the sweep did, the same command continues it: {self._crash}"
            ) from self._crash
        reason = self._reason or "interrupted"
        rest = Outcome.from_plain({"kind": reason, "detail": "ended before the run began or answered", "step": 0})
        return {assignment.run: self._outcomes.get(assignment.run, rest) for assignment in self._assignments}

    def stop(self, reason: StopReason) -> None:
        """Ask every run to commit and end; the first reason stays."""
        if self._reason is None:
            self._reason, self._asked_at = reason, time.monotonic()
            ask_to_stop(self._first.session.uuid, reason)

    def _tune(self) -> None:
        try:
            results = self._tuner().fit()
            for result in (results[index] for index in range(len(results))):
                run = result.config[ASSIGNMENT]["run"] if result.config else ""
                self._outcomes[run] = _outcome(result, self._first.config.operation.max_failures)
        except (RayError, TuneError, RuntimeError, OSError) as error:
            self._crash = error

    def _tuner(self) -> tune.Tuner:
        first = self._first
        return tune.Tuner(
            tune.with_resources(run_trial, {HEAD_RESOURCE: _DRIVER_SHARE}),
            tune_config=tune.TuneConfig(
                search_alg=self._queue,
                num_samples=len(self._assignments),
                max_concurrent_trials=self._num_concurrent,
            ),
            run_config=tune.RunConfig(
                name=f"sweep-{first.config.digest()[:8]}-{first.session.uuid[:8]}",
                storage_path=RAY_PATH,
                storage_filesystem=ray_filesystem(),
                failure_config=tune.FailureConfig(max_failures=first.config.operation.max_failures),
                verbose=0,
            ),
        )

    def _look(self, began: float) -> None:
        """Read the living runs' status, show all, and see whether a time limit has passed."""
        operation = self._first.config.operation
        workers = 0
        for assignment in self._assignments:
            status = self._status(assignment.run)
            if status.state in ("claimed", "searching") and status.owner is not None:
                is_ours = status.owner.session == assignment.session.uuid
                workers += status.environment.world_size if is_ours and status.environment is not None else 0
        self._observer(list(self._statuses.values()))
        self._worker_s += workers * _OBSERVE_S
        hours = (time.monotonic() - began) / 3600
        if operation.max_hours is not None and hours >= operation.max_hours:
            self.stop("time_limit")
        if operation.max_worker_hours is not None and self._worker_s / 3600 >= operation.max_worker_hours:
            self.stop("time_limit")
        self._tell_waiting()

    def _status(self, run: str) -> RunStatus:
        status = self._statuses[run]
        if run not in self._queue.started or status.state == "finished":
            return status
        try:
            status = self._statuses[run] = run_status(self._store, self._first.experiment, run)
        except StoreError as error:  # a status is only shown; the runs themselves say what the store refuses
            logger.info("the status of %s cannot be read now: %s", run, error)
        return status

    def _tell_waiting(self) -> None:
        if time.monotonic() - self._told_waiting < _TELL_WAITING_S:
            return
        self._told_waiting = time.monotonic()
        try:
            waiting, capacity = waiting_demand(), cluster_capacity()
        except RayError as error:
            logger.info("what waits for a place cannot be read now: %s", error)
            return
        if waiting:
            amounts = " and ".join(f"{amount:g} {name}s" for name, amount in sorted(waiting.items(), reverse=True))
            logger.info("waiting for %s; %s", amounts, capacity.describe())

    def _patience_is_over(self) -> bool:
        return self._asked_at is not None and time.monotonic() - self._asked_at > _STOP_GRACE_S

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM stops the sweep, the second this process; only the main thread can listen."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self._reason is not None:
                raise KeyboardInterrupt
            logger.warning("%s: committing and ending; once more ends at once", signal.Signals(number).name)
            self.stop("interrupted")

        before = {number: signal.signal(number, handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _outcome(result: tune.Result, max_failures: int) -> Outcome:
    plain = (result.metrics or {}).get(OUTCOME)
    if isinstance(plain, Mapping):
        return Outcome.from_plain(plain)
    return Outcome("lost", f"its trial process died more than {max_failures} times: {result.error}")
