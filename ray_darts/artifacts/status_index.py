"""`status.json` of an experiment: what was last known of each started run, so that few logs have to be asked.

A hint. Each entry is the status after one record, which never changes, and names that record's number and digest. So an
index that is absent or old costs more requests and shows nothing that is wrong: only whether a record follows has to
be asked, and after a finish not even that. Written by the driver of a sweep, and by `gc --delete` and
`verify --repair` for older experiments. Ages aside it is a function of the logs alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

from pydantic import JsonValue, TypeAdapter

from ray_darts.artifacts.contention import until_settled
from ray_darts.artifacts.documents import Document
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.objects import ObjectStore, swap
from ray_darts.artifacts.records import Environment
from ray_darts.artifacts.run_log import Entry
from ray_darts.artifacts.status import RunStatus, status_after
from ray_darts.errors import CorruptObject, MissingObject, StoreError
from ray_darts.messages import shown_value

logger = logging.getLogger(__name__)


_STATUS: TypeAdapter[RunStatus] = TypeAdapter(RunStatus)
_FIELDS = {field.name for field in fields(RunStatus)}


class StatusIndex(Document):
    """status.json. `runs`: each a RunStatus with all its fields; `age_s` is of the time when the index was written, by
    the store's clock, and `environment` a place among `environments`, since most runs have the same."""

    experiment: str
    environments: tuple[Environment, ...]
    runs: dict[str, dict[str, JsonValue]]

    @classmethod
    def of(cls, experiment: str, statuses: Iterable[RunStatus]) -> StatusIndex:
        """The index of the runs that have a log."""
        places: dict[str, int] = {}
        environments: list[Environment] = []
        runs: dict[str, dict[str, JsonValue]] = {}
        for status in statuses:
            if status.record is None:
                continue
            assert status.environment is not None
            place = places.setdefault(status.environment.model_dump_json(), len(places))
            if place == len(environments):
                environments.append(status.environment)
            plain = _STATUS.dump_python(replace(status, environment=None, age_s=status.age_s or 0.0), mode="json")
            runs[status.run] = {**plain, "environment": place}
        return cls(experiment=experiment, environments=tuple(environments), runs=runs)

    def statuses(self, key: str, age_s: float) -> Iterator[RunStatus]:
        """The status of each run, `age_s` after the index was written.

        Raises: CorruptObject, also for an index of a release whose statuses have other fields.
        """
        for run, plain in self.runs.items():
            try:
                if plain.keys() != _FIELDS:
                    raise ValueError(f"other fields than {', '.join(sorted(_FIELDS))}")
                status = _STATUS.validate_python({**plain, "environment": None})
                if status.run != run or status.record is None or status.age_s is None:
                    raise ValueError("another run, or no record")
                place = plain["environment"]
                if not isinstance(place, int) or not 0 <= place < len(self.environments):
                    raise ValueError("an environment that is not there")
            except ValueError as error:
                raise CorruptObject(f"{key} has no status of {shown_value(run)}: {error}", key=key) from error
            yield replace(status, environment=self.environments[place], age_s=status.age_s + age_s)


class StoredIndex(NamedTuple):
    """What lies under the index's key. `etag`: None where nothing does. `statuses`: by run. `damage`: why it cannot be
    read."""

    etag: str | None
    statuses: dict[str, RunStatus]
    damage: str | None = None


def read_index(store: ObjectStore, experiment: str) -> StoredIndex:
    """Read the index, one GET; an absent, damaged or newer one knows nothing."""
    key = ExperimentKeys(experiment).status
    try:
        stored = store.get(key)
    except MissingObject:
        return StoredIndex(None, {})
    try:
        index = StatusIndex.from_bytes(stored.data, key)
        if index.experiment != experiment:
            raise CorruptObject(f"{key} is of experiment {index.experiment!r}", key=key)
        return StoredIndex(stored.etag, {status.run: status for status in index.statuses(key, stored.age_s)})
    except CorruptObject as error:
        return StoredIndex(stored.etag, {}, str(error))


def update_index(store: ObjectStore, experiment: str, statuses: Iterable[RunStatus]) -> bool:
    """Add what `statuses` know to the index; returns whether anything was new.

    Entries of other runs stay, and of one run the entry of the later record; so two drivers may write at the same time.
    Raises: StoreError naming the server when it refuses every swap.
    """
    key = ExperimentKeys(experiment).status
    offered = [status for status in statuses if status.record is not None]

    def write() -> bool | None:
        there = read_index(store, experiment)
        newer = [status for status in offered if _adds(status, there.statuses.get(status.run))]
        if not newer and there.etag is not None and there.damage is None:
            return False
        merged = there.statuses | {status.run: status for status in newer}
        return swap(store, key, StatusIndex.of(experiment, merged.values()).to_bytes(), there.etag) or None

    return until_settled(store, key, write, "must accept If-Match with the ETag that it sends")


def try_update_index(store: ObjectStore, experiment: str, statuses: Iterable[RunStatus]) -> None:
    """`update_index`; where that fails it is logged, since the index only saves requests."""
    try:
        update_index(store, experiment, statuses)
    except StoreError as error:
        logger.info("the index of the runs' status is not written: %s", error)


def _adds(status: RunStatus, known: RunStatus | None) -> bool:
    if known is None or known.record is None or status.record is None:
        return True
    return status.record > known.record or (
        status.record == known.record and status.record_sha256 != known.record_sha256
    )


class IndexCheck:
    """Compares the index, as it was when this was made, with logs that are read later; an old entry is not wrong."""

    def __init__(self, store: ObjectStore, experiment: str) -> None:
        self._store, self._experiment = store, experiment
        self._there = read_index(store, experiment)
        self._unseen = dict(self._there.statuses)
        self._of_logs: list[RunStatus] = []
        self._wrong: list[str] = []

    def add(self, run: str, log: Sequence[Entry] | None) -> None:
        """Compare with the whole log of a run; None: one that cannot be read."""
        known = self._unseen.pop(run, None)
        if log:
            self._of_logs.append(status_after(run, log[-1]))
        if known is None or known.record is None or log is None:
            return
        entry = log[known.record] if known.record < len(log) else None
        if entry is None or replace(status_after(run, entry), age_s=known.age_s) != known:
            self._wrong.append(f"says of {run} what record {known.record} of its log does not")

    def result(self, repair: bool) -> tuple[list[str], bool]:
        """(What is wrong with the index, whether it is repaired); with `repair` an absent or old one is written, too.

        Raises: StoreError.
        """
        wrong = [] if self._there.damage is None else [self._there.damage]
        wrong += [*self._wrong, *(f"names {run}, which has no log" for run in sorted(self._unseen))]
        if not repair:
            return wrong, False
        if not wrong:
            update_index(self._store, self._experiment, self._of_logs)
            return wrong, False
        index = StatusIndex.of(self._experiment, self._of_logs)
        key = ExperimentKeys(self._experiment).status
        return wrong, swap(self._store, key, index.to_bytes(), self._there.etag)
