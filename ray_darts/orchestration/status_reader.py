"""Reads the status of runs in a thread, so that a store that does not answer delays neither limits nor stops.

Asks the store of a run when it has reported something through Ray or has ended, when it has been silent for longer than
a run at work is, and more often while it starts. So a pass costs requests for the runs that have changed, not for all.
Keeps the experiment's index (`status.json`) up to date. A status is only shown and counted: what the store refuses is
reported by the run itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ray_darts.artifacts.concurrent_calls import do_concurrently
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.status import RunStatus
from ray_darts.artifacts.status_index import update_index
from ray_darts.artifacts.statuses import READERS, RunStatuses
from ray_darts.errors import StoreDenied, StoreError
from ray_darts.orchestration.reports import RunReport

logger = logging.getLogger("ray_darts.orchestration")

SILENT_S = 60.0
_STARTING_S = 2.0
_SHARE_OF_WAIT = 0.25
INDEX_EVERY_S = 60.0


@dataclass(frozen=True)
class _Look:
    """When the store was last asked of a run, and first, by the monotonic clock; the number of the report that was
    known then, and the claims of the run when that report came."""

    at: float
    first_at: float
    number: int
    claims: int


class StatusReader:
    """The last known status of each run; `refresh` reads those that `started` names again where they may have changed.

    `reports`: what runs have said through Ray. `session`: of this command; a run of another one has not started yet.
    `silent_s`: how long a run at work may say nothing before the store is asked.
    Its threads are daemons: a request that is never answered does not keep the command.
    """

    def __init__(
        self,
        store: ObjectStore,
        experiment: str,
        statuses: Sequence[RunStatus],
        runs: Collection[str],
        started: Callable[[], Collection[str]],
        reports: Callable[[], Mapping[str, RunReport]] = dict,
        session: str = "",
        silent_s: float = SILENT_S,
    ) -> None:
        self._store, self._experiment = store, experiment
        self._runs, self._started, self._reports = runs, started, reports
        self._session, self._silent_s = session, silent_s
        self._names = [status.run for status in statuses]
        self._known = RunStatuses(store, experiment, statuses)
        self._looks: dict[str, _Look] = {}
        self._asked = self._answered = 0
        self._everything = 0
        self._closed = False
        self._index_at: float | None = None
        self._may_index = True
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True, name="status reader").start()

    def refresh(self, timeout_s: float, everything: bool = False) -> bool:
        """Read the statuses that may have changed and wait for them, `timeout_s` at most; whether all have been read.

        `everything`: read every run that has started and not ended, whenever it was last read.
        Raises: what ended the thread, a bug.
        """
        with self._changed:
            self._asked += 1
            wanted = self._asked
            if everything:
                self._everything = wanted
            self._changed.notify_all()
            fresh = self._changed.wait_for(lambda: self._failure is not None or self._answered >= wanted, timeout_s)
            if self._failure is not None:
                raise self._failure
            return fresh

    def close(self) -> None:
        """End the thread once the request in progress has ended, without waiting for it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def all(self) -> list[RunStatus]:
        """The last known status of each run of the experiment's request."""
        return [self.of(run) for run in self._names]

    def of(self, run: str) -> RunStatus:
        """The last known status of a run. `latest` is what the run has reported since its last record, if anything;
        such a status is of no record."""
        status, report, look = self._known.of(run), self._reports().get(run), self._looks.get(run)
        if report is None or look is None or not status.has_owner:
            return status
        if report.number != look.number or status.claims != look.claims:
            return status  # not of this start, as far as is known
        epoch = report.metrics.get("epoch")
        if not isinstance(epoch, int) or (status.epoch is not None and epoch <= status.epoch):
            return status
        return replace(status, latest=report.metrics, record=None, record_sha256=None)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._asked > self._answered)
                if self._closed:
                    return
                asked, everything = self._asked, self._everything > self._answered
            do_concurrently(self._read, self._due(everything), READERS)
            with self._changed:
                self._answered = asked
                self._changed.notify_all()
            self._write_index()

    def _due(self, everything: bool) -> list[str]:
        """The runs to read now."""
        started, reports, now = set(self._started()), dict(self._reports()), time.monotonic()
        return [run for run in self._runs if run in started and self._is_due(run, reports.get(run), now, everything)]

    def _is_due(self, run: str, report: RunReport | None, now: float, everything: bool) -> bool:
        status, look = self._known.of(run), self._looks.get(run)
        if status.state == "finished":
            return False
        if look is None or (report is not None and report.number != look.number):
            return True
        if report is not None and report.is_over:
            return False
        return everything or now - look.at >= self._pause_s(status, look)

    def _pause_s(self, status: RunStatus, look: _Look) -> float:
        """How long after a look a run that says nothing is looked at again; of one that starts, a share of the time it
        has taken so far."""
        if status.has_owner and status.owner is not None and status.owner.session == self._session:
            return self._silent_s
        return min(self._silent_s, max(_STARTING_S, _SHARE_OF_WAIT * (look.at - look.first_at)))

    def _read(self, run: str) -> None:
        if self._closed:
            return
        report, before = self._reports().get(run), self._looks.get(run)
        number = 0 if report is None else report.number
        try:
            status = self._known.read(run)
        except StoreError as error:
            logger.info("the status of %s cannot be read now: %s", run, error)
            return
        now = time.monotonic()
        claims = before.claims if before is not None and before.number == number else status.claims
        self._looks[run] = _Look(now, now if before is None else before.first_at, number, claims)

    def _write_index(self) -> None:
        """At most every INDEX_EVERY_S, not before a run has started, and never again where the right is missing."""
        now = time.monotonic()
        if (
            not self._may_index
            or not self._started()
            or (self._index_at is not None and now - self._index_at < INDEX_EVERY_S)
        ):
            return
        self._index_at = now
        try:
            update_index(self._store, self._experiment, [self._known.of(run) for run in self._names])
        except StoreDenied as error:
            self._may_index = False
            logger.info("the index of the runs' status is not written: %s", error)
        except StoreError as error:
            logger.info("the index of the runs' status cannot be written now: %s", error)
