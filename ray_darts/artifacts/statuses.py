"""The last known status of each run of an experiment, read again with as few requests as its log allows.

What is known comes from the index (`status.json`) and from logs that were read before. Never writes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from ray_darts.artifacts.concurrent_calls import call_concurrently
from ray_darts.artifacts.experiment import list_runs
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.run_log import find_newer
from ray_darts.artifacts.status import RunStatus, status_after
from ray_darts.artifacts.status_index import read_index

READERS = 16
"""Statuses read at a time; more would wait for the S3 client, which has as many connections."""


class RunStatuses:
    """Statuses of runs of one experiment; safe in threads that read different runs.

    `statuses`: what is known already. Ages go on by this process's monotonic clock from where they were read.
    """

    def __init__(self, store: ObjectStore, experiment: str, statuses: Iterable[RunStatus] = ()) -> None:
        self._store, self._experiment = store, experiment
        now = time.monotonic()
        self._known = {status.run: (status, now) for status in statuses}
        self._has_index = False

    def read_index(self) -> None:
        """Learn what the experiment's index knows; one GET. Raises: StoreError."""
        index = read_index(self._store, self._experiment)
        self._has_index = index.etag is not None and index.damage is None
        now = time.monotonic()
        for run, status in index.statuses.items():
            known = self._known.get(run)
            if known is None or (status.record or 0) > (-1 if known[0].record is None else known[0].record):
                self._known[run] = status, now

    def of(self, run: str) -> RunStatus:
        """The last known status of a run; `waiting` where nothing is known."""
        if run not in self._known:
            return RunStatus(run, "waiting")
        status, read_at = self._known[run]
        if status.age_s is None:
            return status
        return replace(status, age_s=status.age_s + time.monotonic() - read_at)

    def read(self, run: str) -> RunStatus:
        """Ask the log of a run what follows the record that is known of it; returns the status now.

        No request for a run that is known to have finished; one where nothing follows; two where one record does, or
        where nothing is known and the run has finished; three where nothing is known and it has not.
        Raises: StoreError.
        """
        status = self.of(run)
        if status.state == "finished":
            return status
        known = status.record
        if known is None and (run in self._known or self._has_index):
            known = -1  # it had no log when the index was written, or when it was read
        entry = find_newer(self._store, RunKeys(self._experiment, run), known)
        if entry is not None:
            status = status_after(run, entry)
        self._known[run] = status, time.monotonic()
        return status

    def read_all(self, runs: Iterable[str], readers: int = READERS) -> list[RunStatus]:
        """`read` of each run, several at a time. Raises: StoreError."""
        return list(call_concurrently(self.read, runs, readers))

    def read_listed(self) -> list[RunStatus]:
        """The status of all runs of the experiment now, by name; what the index knows is asked of it first.

        Raises: StoreError.
        """
        self.read_index()
        return self.read_all(list_runs(self._store, self._experiment))


def experiment_status(store: ObjectStore, experiment: str) -> list[RunStatus]:
    """All runs of an experiment, by name. Raises: StoreError."""
    return RunStatuses(store, experiment).read_listed()
