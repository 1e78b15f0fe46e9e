"""Removes objects that no record refers to and no writer can still refer to, and what killed puts have left.

Safe by terms alone: once a claim of term e is in the log, no record of an earlier term can be appended. The minimum age
is an additional delay. Records, descriptions and publications are never removed. On request a finished run first
records that it lets go of parts or of its last checkpoint (`compact`), so that they are garbage too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ray_darts.artifacts.checkpoints import checkpoints_of
from ray_darts.artifacts.compact import Release, releasable, release
from ray_darts.artifacts.concurrent_calls import do_concurrently
from ray_darts.artifacts.experiment import list_runs
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import Listed, ObjectStore
from ray_darts.artifacts.records import Record
from ray_darts.artifacts.run_log import Entry, read_log
from ray_darts.artifacts.status_index import try_update_index
from ray_darts.artifacts.statuses import experiment_status
from ray_darts.errors import CorruptObject, GenotypeError, MissingObject, PluginError

DEFAULT_MIN_AGE_S = 24 * 3600.0
MOST_LISTED = 10_000
"""Keys that a Collection names; of more it has the numbers."""
_DELETERS = 16
_SIDE_BY_SIDE = 64
"""From so many deletes on, a run's objects are deleted side by side."""

UNREFERENCED = "parts and checkpoints that no record names"
SUPERSEDED = "superseded checkpoints"
LAST = "last checkpoints of finished runs"
REPEATED = "parts that a published trace repeats"
LEFTOVERS = "temporary files"


@dataclass
class Amount:
    """So many objects, of so many bytes in all."""

    objects: int = 0
    num_bytes: int = 0

    def add(self, num_bytes: int) -> None:
        """Count one more object."""
        self.objects += 1
        self.num_bytes += num_bytes


@dataclass
class Collection:
    """What was found, and whether it was removed.

    `kinds`: {kind: how much of it}. `garbage`: the first MOST_LISTED objects. `compacted`: runs that let something go
    now, or would. `problems`: {run: why nothing of it, or no more of it, was let go or removed}.
    """

    experiment: str
    deleted: bool
    garbage: list[Listed] = field(default_factory=list)
    kinds: dict[str, Amount] = field(default_factory=dict)
    compacted: int = 0
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def num_objects(self) -> int:
        return sum(amount.objects for amount in self.kinds.values())

    @property
    def num_bytes(self) -> int:
        return sum(amount.num_bytes for amount in self.kinds.values())

    def add(self, kind: str, entry: Listed) -> None:
        """Count an object."""
        self.kinds.setdefault(kind, Amount()).add(entry.num_bytes)
        if len(self.garbage) < MOST_LISTED:
            self.garbage.append(entry)


def collect_experiment(
    store: ObjectStore,
    experiment: str,
    min_age_s: float = DEFAULT_MIN_AGE_S,
    delete: bool = False,
    *,
    compact: bool = False,
    keep_finished_checkpoints: int = 1,
) -> Collection:
    """Find garbage at least `min_age_s` old by the store's clock, and remove it if `delete`; one run at a time.

    With `delete` the index of `status` is brought up to date, too. `compact`: finished runs let go of the parts that
    their published traces repeat. Of a finished run the newest `keep_finished_checkpoints` checkpoints stay. A run
    whose log or documents are not as written is left as it is, and named in `problems`. Raises: StoreError.
    """
    found = Collection(experiment, delete)
    for run in list_runs(store, experiment):
        keys = RunKeys(experiment, run)
        try:
            log, planned = _let_go(store, keys, found, min_age_s, compact, keep_finished_checkpoints)
        except CorruptObject as error:
            found.problems[run] = str(error)
            continue
        everything = run_garbage(store, keys, log, planned, keep_finished_checkpoints)
        garbage = [(kind, entry) for kind, entry in everything if entry.age_s >= min_age_s]
        for kind, entry in garbage:
            found.add(kind, entry)
        if delete:
            threads = 1 if len(garbage) < _SIDE_BY_SIDE else _DELETERS
            do_concurrently(store.delete, [entry.key for _, entry in garbage], threads)
    for entry in store.list_leftovers(f"{experiment}/"):
        if entry.age_s >= min_age_s:
            found.add(LEFTOVERS, entry)
            if delete:
                store.delete(entry.key)
    if delete:
        try_update_index(store, experiment, experiment_status(store, experiment))
    return found


def _let_go(
    store: ObjectStore, keys: RunKeys, found: Collection, min_age_s: float, compact: bool, keep: int
) -> tuple[list[Entry], Release | None]:
    """The log of a run after it has recorded what it lets go, or what it would let go. Raises: CorruptObject."""
    log = read_log(store, keys)
    if not log or log[-1].age_s < min_age_s:
        return log, None
    planned = releasable(log, keys, parts=compact, checkpoint=keep == 0)
    if planned is not None and found.deleted:
        try:
            log = release(store, keys, parts=compact, checkpoint=keep == 0)
        except (CorruptObject, MissingObject, GenotypeError, PluginError) as error:
            found.problems[keys.run] = str(error)
            return log, None
        planned = Release.of(log[-1].record)
    found.compacted += planned is not None
    return log, planned


def run_garbage(
    store: ObjectStore, keys: RunKeys, log: Sequence[Entry], planned: Release | None = None, keep: int = 1
) -> Iterator[tuple[str, Listed]]:
    """(kind, object) of the parts and checkpoints of a run that nothing needs, of terms whose writers are fenced.

    `planned`: what the run would let go; `keep`: of a finished run this many checkpoints stay.
    """
    if not log:
        return
    records = [entry.record for entry in log]
    tip = records[-1]
    fenced = tip.term + 1 if tip.kind == "finish" else tip.term
    there = [entry for prefix in (keys.parts, keys.checkpoints) for entry in store.list_objects(prefix)]
    gone = planned or Release.of(tip)
    kept = _kept_keys(records, {entry.key for entry in there}, gone, keep)
    named = {part.key for record in records for part in record.parts}
    last, older = _checkpoint_keys(records)
    for entry in there:
        term = _term(keys, entry.key)
        if term is None or term >= fenced or entry.key in kept:
            continue
        if entry.key in named:
            yield REPEATED, entry
        elif entry.key in last:
            yield LAST, entry
        else:
            yield SUPERSEDED if any(entry.key in files for files in older) else UNREFERENCED, entry


def _checkpoint_keys(records: Sequence[Record]) -> tuple[set[str], list[set[str]]]:
    """The files of the last checkpoint, and of each older one, the newest first."""
    last, *older = [{ref.tensors.key, ref.state.key} for ref in checkpoints_of(records)] or [set()]
    return last, older


def _kept_keys(records: Sequence[Record], there: set[str], gone: Release | None = None, keep: int = 1) -> set[str]:
    """Every part of every stream of the log, and the checkpoint from which a claim would resume, but what is `gone`.

    Of an unfinished run also the newest older checkpoint that is there: a claim falls back to it when the last one
    cannot be read. Of a finished one the newest `keep`.
    """
    gone = gone or Release()
    kept = {
        part.key
        for record in records
        for stream, parts in record.streams.items()
        if stream not in gone.streams
        for part in parts
    }
    last, older = _checkpoint_keys(records)
    if records[-1].kind == "finish":
        return kept.union(*([] if gone.checkpoint else [last]), *older[: max(0, keep - 1)])
    kept |= last
    return kept | next((keys for keys in older if keys <= there), set())


def _term(keys: RunKeys, key: str) -> int | None:
    """The claim term of whoever put this object; None for a key that this package did not make."""
    name = keys.part_name(key) or keys.checkpoint_name(key)
    return None if name is None else name.term
