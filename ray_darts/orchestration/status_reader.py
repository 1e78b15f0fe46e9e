"""Reads the status of runs in a thread, so that a store that does not answer delays neither limits nor stops.

A status is only shown and counted: what the store refuses is reported by the run itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.errors import StoreError

logger = logging.getLogger("ray_darts.orchestration")


class StatusReader:
    """The last known status of each run; those that `started` names are read again by `refresh`.

    Its thread is a daemon: a request that is never answered does not keep the command.
    """

    def __init__(
        self,
        store: ObjectStore,
        experiment: str,
        statuses: Sequence[RunStatus],
        runs: Collection[str],
        started: Callable[[], Collection[str]],
    ) -> None:
        self._store, self._experiment, self._runs, self._started = store, experiment, runs, started
        self._statuses = {status.run: status for status in statuses}
        self._asked = self._answered = 0
        self._closed = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True, name="status reader").start()

    def refresh(self, timeout_s: float) -> bool:
        """Read all statuses again and wait for them, `timeout_s` at most; whether all are fresh.

        Raises: what ended the thread, a bug.
        """
        with self._changed:
            self._asked += 1
            wanted = self._asked
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
        with self._changed:
            return list(self._statuses.values())

    def of(self, run: str) -> RunStatus:
        """The last known status of a run."""
        with self._changed:
            return self._statuses[run]

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
                asked = self._asked
            for run in self._runs:
                self._read(run)
            with self._changed:
                self._answered = asked
                self._changed.notify_all()

    def _read(self, run: str) -> None:
        if run not in self._started() or self.of(run).state == "finished":
            return
        try:
            status = run_status(self._store, self._experiment, run)
        except StoreError as error:
            logger.info("the status of %s cannot be read now: %s", run, error)
            return
        with self._changed:
            self._statuses[run] = status
