"""Runs a sweep in a thread, and meanwhile handles signals, budgets, the runs' status and the waiting demand.

Never writes to a run's log. Knows no Ray: the sweep that it runs is an object with the methods of `Sweep`.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Protocol

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.status import RunStatus
from ray_darts.errors import ClusterLost, SweepCrashed
from ray_darts.orchestration.assignment import Assignment, RunOutcome
from ray_darts.orchestration.reports import RunReport
from ray_darts.orchestration.spending import Budgets, Spending, SpendingWatch
from ray_darts.orchestration.status_reader import StatusReader
from ray_darts.protocols.task import StopReason

logger = logging.getLogger("ray_darts.orchestration")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOG_STOPPING_S = 10.0


class Sweep(Protocol):
    """What executes the runs; `TuneSweep` in a command."""

    @property
    def started(self) -> Collection[str]:
        """Names of the runs that have been started."""
        ...

    @property
    def reports(self) -> Mapping[str, RunReport]:
        """What each run has last said of itself, and whether it has ended; runs that have said nothing are absent."""
        ...

    def fit(self) -> Mapping[str, RunOutcome]:
        """Run until every started run has ended; called in a thread of its own. Raises: ClusterLost, or a bug."""
        ...

    def request_stop(self, reason: StopReason) -> None:
        """Start no further run, and ask the running ones to commit and end."""
        ...

    def clear_stop(self) -> None:
        """Remove the request; the last call."""
        ...

    def describe_waiting(self) -> str | None:
        """One line about the resources that runs wait for; None when nothing waits."""
        ...


@dataclass(frozen=True)
class Limits:
    """When a sweep is stopped, and how often the Supervisor looks.

    `budgets`: of the experiment; `spent`: what was spent of them by other runs and other commands.
    `status_timeout_s`: how long it waits for the statuses in the store before it goes on with those that it knows.
    `stop_grace_s`: how long runs may take to commit and end after a stop before the command ends without them.
    """

    budgets: Budgets = field(default_factory=Budgets)
    spent: Spending = field(default_factory=Spending)
    observe_s: float = 2.0
    status_timeout_s: float = 2.0
    log_waiting_s: float = 30.0
    stop_grace_s: float = 180.0


class Supervisor:
    """Runs the assignments of one session; `statuses` are those of all runs that the observer is shown."""

    def __init__(
        self,
        sweep: Sweep,
        assignments: Sequence[Assignment],
        store: ObjectStore,
        statuses: Sequence[RunStatus],
        observer: Callable[[list[RunStatus]], None],
        limits: Limits,
    ) -> None:
        self._sweep, self._observer, self._limits = sweep, observer, limits
        self._runs = [assignment.run for assignment in assignments]
        self._session = assignments[0].session.uuid
        operation = assignments[0].config.operation
        self._statuses = StatusReader(
            store,
            assignments[0].experiment,
            statuses,
            self._runs,
            lambda: self._sweep.started,
            lambda: self._sweep.reports,
            self._session,
            max(operation.commit_every_s, operation.report_every_s),
        )
        self._reason: StopReason | None = None
        self._stopped_at: float | None = None
        self._outcomes: Mapping[str, RunOutcome] = {}
        self._crash: BaseException | None = None
        self._spending = SpendingWatch(limits.budgets, limits.spent, self._session)
        self._last_waiting = time.monotonic()

    def run(self) -> dict[str, RunOutcome]:
        """Return each assignment's outcome.

        Raises: ClusterLost; SweepCrashed with the type and text of any other exception of the sweep's thread.
        """
        thread = threading.Thread(target=self._fit, daemon=True, name="ray_tune")  # it prints as Ray
        with self._signals():
            thread.start()
            try:
                while thread.is_alive() and not self._grace_is_over():
                    thread.join(self._limits.observe_s)
                    self._observe()
                self._statuses.refresh(self._limits.status_timeout_s, everything=True)
                self._observer(self._statuses.all())
            finally:
                self._statuses.close()
                self._sweep.clear_stop()
        if isinstance(self._crash, ClusterLost):
            raise self._crash
        if self._crash is not None:
            raise SweepCrashed(
                f"the sweep ended with an unexpected error, {type(self._crash).__name__}: {self._crash}. What was "
                "committed is safe; please report this error with the log"
            ) from self._crash
        if thread.is_alive():
            logger.warning("the runs have not ended %g s after the stop: going on without", self._limits.stop_grace_s)
        return {run: self._outcome(run) for run in self._runs}

    def stop(self, reason: StopReason) -> None:
        """Ask every run to commit and end; a second call changes nothing."""
        if self._reason is None:
            self._reason, self._stopped_at = reason, time.monotonic()
            self._sweep.request_stop(reason)

    def _fit(self) -> None:
        try:
            self._outcomes = self._sweep.fit()
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            self._crash = error

    def _outcome(self, run: str) -> RunOutcome:
        """How a run ended; its step is the last one that is known to be durable, whoever reported the end."""
        outcome, status = self._outcomes.get(run, self._unanswered()), self._statuses.of(run)
        if status.state == "finished":  # of several runs of a worker group that was lost, some may have finished
            return RunOutcome("finished", step=status.step)
        if status.state == "failed" and outcome.kind == "lost" and status.failure is not None:
            return RunOutcome("failed", status.failure.detail, status.step)
        return replace(outcome, step=max(outcome.step, status.step))

    def _unanswered(self) -> RunOutcome:
        """The outcome of a run that the sweep has not reported."""
        if self._reason is None:
            return RunOutcome("error", "Ray Tune ended without a result for this run")
        return RunOutcome(self._reason, "ended before the run began or answered")

    def _observe(self) -> None:
        """Refresh the status of the started runs, show all to the observer, and stop where a budget is spent."""
        self._statuses.refresh(self._limits.status_timeout_s)
        self._observer(self._statuses.all())
        spent = self._spending.observe(self._statuses.of(run) for run in self._runs)
        if spent is not None and self._reason is None:
            logger.warning("the budget is spent: %s; the runs commit and end", spent)
            self.stop("budget_spent")
        self._log_waiting()

    def _log_waiting(self) -> None:
        every_s = self._limits.log_waiting_s
        if self._stopped_at is not None:
            every_s = min(every_s, _LOG_STOPPING_S)
        if time.monotonic() - self._last_waiting < every_s:
            return
        self._last_waiting = time.monotonic()
        waiting = self._sweep.describe_waiting() if self._stopped_at is None else self._describe_stopping()
        if waiting is not None:
            logger.info("%s", waiting)

    def _describe_stopping(self) -> str:
        """What a stopped command still waits for, and for how long at most."""
        assert self._stopped_at is not None
        statuses = [self._statuses.of(run) for run in self._runs if run in self._sweep.started]
        steps = [f"{status.run} (step {status.step} is durable)" for status in statuses if not status.has_ended]
        left = max(0.0, self._limits.stop_grace_s - (time.monotonic() - self._stopped_at))
        return (
            f"waiting up to {left:.0f} s for the last commit of {', '.join(steps) or 'the runs'}; a second signal "
            "(Ctrl-C) ends this command at once"
        )

    def _grace_is_over(self) -> bool:
        return self._stopped_at is not None and time.monotonic() - self._stopped_at > self._limits.stop_grace_s

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM stops the sweep, the second this process; only the main thread can listen."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self._reason is not None:
                raise KeyboardInterrupt
            name = signal.Signals(number).name
            logger.warning("%s: the runs commit and end; a second signal ends this command at once", name)
            self.stop("interrupted")

        before = {number: signal.signal(number, handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
