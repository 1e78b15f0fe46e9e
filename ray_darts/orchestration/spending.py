"""What an experiment has spent of its budgets: by its logs, over all commands, and up to now for the runs of this one.

Budgets belong to the experiment and its selection: a second command goes on from what the first has used. The time of a
start that was killed counts up to its last record.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ray_darts.artifacts.hours import SessionHours, read_hours, seconds_at_work, write_hours
from ray_darts.artifacts.keys import search_of, selection_of
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Owner, Spent
from ray_darts.artifacts.status import RunStatus
from ray_darts.artifacts.statuses import experiment_status
from ray_darts.config import OperationSettings
from ray_darts.errors import StoreError

logger = logging.getLogger("ray_darts.orchestration")

_WARN_AT = 0.8
_WRITE_EVERY_S = 60.0
_LAST_WRITE_S = 10.0


@dataclass(frozen=True)
class Spending:
    """`hours` in which a command worked, `worker_hours`, and `cost` in the currency of the prices."""

    hours: float = 0.0
    worker_hours: float = 0.0
    cost: float = 0.0

    def plus(self, runs: Iterable[Spent]) -> Spending:
        """With what runs have spent besides."""
        spent = list(runs)
        worker_hours = self.worker_hours + sum(each.worker_s for each in spent) / 3600
        return replace(self, worker_hours=worker_hours, cost=self.cost + sum(each.cost for each in spent))


@dataclass(frozen=True)
class Budgets:
    """None: no limit. Each is one of `Spending`."""

    hours: float | None = None
    worker_hours: float | None = None
    cost: float | None = None

    @classmethod
    def of(cls, operation: OperationSettings) -> Budgets:
        """Those of a config."""
        return cls(operation.max_hours, operation.max_worker_hours, operation.max_cost)

    def __bool__(self) -> bool:
        return self != Budgets()

    def shares(self, spent: Spending) -> Iterator[tuple[float, str]]:
        """(share that is spent, one line) of each budget that is set."""
        for name, option, words in (
            ("hours", "--max-hours", "hours"),
            ("worker_hours", "--max-worker-hours", "worker-hours"),
            ("cost", "--max-cost", "of cost"),
        ):
            limit, used = getattr(self, name), getattr(spent, name)
            if limit is not None:
                yield used / limit, f"{used:.3g} of {limit:g} {words} ({option})"

    def text(self, spent: Spending) -> str:
        """One line of all budgets that are set."""
        return ", ".join(line for _, line in self.shares(spent))

    def exceeded(self, spent: Spending) -> str | None:
        """Which budgets are spent, None where none is."""
        return ", ".join(line for share, line in self.shares(spent) if share >= 1.0) or None


def spent_before(store: ObjectStore, experiment: str, runs: Iterable[str]) -> Spending:
    """What is spent of the budgets of an experiment and its selection, without the runs named. Raises: StoreError."""
    search = search_of(experiment)
    left_out, spent, hours = set(runs), list[Spent](), list[SessionHours]()
    for each in (search, selection_of(search)):
        hours += read_hours(store, each)
        statuses = experiment_status(store, each)
        spent += [status.spent for status in statuses if each != experiment or status.run not in left_out]
    return Spending(seconds_at_work(hours) / 3600).plus(spent)


class SpendingWatch:
    """Adds what the runs of one command spend to what was spent before it; warns at 80 %, and says what is spent."""

    def __init__(
        self, budgets: Budgets, before: Spending, session: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._budgets, self._before, self._session, self._clock = budgets, before, session, clock
        self._began = clock()
        self._seen: dict[str, tuple[tuple[Spent, Owner | None], float]] = {}
        self._warned: set[str] = set()

    def observe(self, runs: Iterable[RunStatus]) -> str | None:
        """Take the last status of each run; which budgets are spent, None where none is."""
        spent = self.total(runs)
        for share, line in self._budgets.shares(spent):
            budget = line.partition("(")[2]
            if share >= _WARN_AT and budget not in self._warned:
                self._warned.add(budget)
                logger.warning("%.0f %% of a budget is spent: %s", 100 * min(share, 1.0), line)
        return self._budgets.exceeded(spent)

    def total(self, runs: Iterable[RunStatus]) -> Spending:
        """What is spent up to now: by the logs, and by the workers of this command since their last record."""
        now, total = self._clock(), list[Spent]()
        for run in runs:
            known = run.spent, run.owner
            last, seen_at = self._seen.get(run.run, (None, now))
            if last != known:  # a new record, or the claim of a start: what was before it is not of its workers
                seen_at = now
                self._seen[run.run] = known, now
            spent = run.spent
            is_ours = run.has_owner and run.owner is not None and run.owner.session == self._session
            if is_ours and run.environment is not None:
                spent = spent.plus(now - seen_at, run.environment)
            total.append(spent)
        return replace(self._before, hours=self._before.hours + (now - self._began) / 3600).plus(total)


class HoursKeeper:
    """Writes into the store how long this command has worked, once a minute and at its end; a store that does not
    answer delays nothing."""

    def __init__(self, store: ObjectStore, experiment: str, session: str, every_s: float = _WRITE_EVERY_S) -> None:
        self._store, self._experiment, self._session, self._every_s = store, experiment, session, every_s
        self._began_at, self._began = datetime.now(UTC).isoformat(timespec="milliseconds"), time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="hours")
        self._thread.start()

    def close(self) -> None:
        """Write a last time, and wait a few seconds for it."""
        self._closed.set()
        self._thread.join(_LAST_WRITE_S)

    def _work(self) -> None:
        while True:
            closed = self._closed.wait(self._every_s)
            hours = SessionHours(session=self._session, began=self._began_at, seconds=time.monotonic() - self._began)
            try:
                write_hours(self._store, self._experiment, hours)
            except StoreError as error:
                logger.info("the hours of this command cannot be written now: %s", error)
            if closed:
                return
