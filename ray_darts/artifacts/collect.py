"""Removes objects that no record refers to and no writer can still refer to, and what killed puts have left.

Safe by terms alone: once a claim of term e is in the log, no record of an earlier term can be appended. The minimum age
is an additional delay. Records, descriptions and publications are never removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ray_darts.artifacts.checkpoints import checkpoints_of
from ray_darts.artifacts.experiment import list_runs
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import Listed, ObjectStore
from ray_darts.artifacts.records import Record
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.status_index import try_update_index
from ray_darts.artifacts.statuses import experiment_status

DEFAULT_MIN_AGE_S = 24 * 3600.0


@dataclass(frozen=True)
class Collection:
    """What was found, and whether it was removed."""

    experiment: str
    garbage: list[Listed]
    deleted: bool

    @property
    def num_bytes(self) -> int:
        return sum(entry.num_bytes for entry in self.garbage)


def collect_experiment(
    store: ObjectStore, experiment: str, min_age_s: float = DEFAULT_MIN_AGE_S, delete: bool = False
) -> Collection:
    """Find garbage at least `min_age_s` old by the store's clock, and remove it if `delete`.

    With `delete` the index of `status` is brought up to date, too.

    Raises: CorruptObject when a log cannot be read whole: nothing of the experiment is removed then.
    """
    garbage: list[Listed] = []
    for run in list_runs(store, experiment):
        keys = RunKeys(experiment, run)
        garbage += run_garbage(store, keys)
    garbage += store.list_leftovers(f"{experiment}/")
    garbage = [entry for entry in garbage if entry.age_s >= min_age_s]
    if delete:
        for entry in garbage:
            store.delete(entry.key)
        try_update_index(store, experiment, experiment_status(store, experiment))
    return Collection(experiment, garbage, delete)


def run_garbage(store: ObjectStore, keys: RunKeys) -> Iterator[Listed]:
    """Parts that no record names and superseded checkpoints, of terms whose writers are fenced."""
    log = read_log(store, keys)
    if not log:
        return
    tip = log[-1].record
    fenced = tip.term + 1 if tip.kind == "finish" else tip.term
    there = [entry for prefix in (keys.parts, keys.checkpoints) for entry in store.list_objects(prefix)]
    kept = _kept_keys([entry.record for entry in log], {entry.key for entry in there})
    for entry in there:
        term = _term(keys, entry.key)
        if term is not None and term < fenced and entry.key not in kept:
            yield entry


def _kept_keys(records: Sequence[Record], there: set[str]) -> set[str]:
    """Every part of every stream of the log, and the checkpoint from which a claim would resume.

    Of an unfinished run also the newest older checkpoint that is there: a claim falls back to it when the last one
    cannot be read.
    """
    kept = {part.key for record in records for part in record.parts}
    last, *older = [{ref.tensors.key, ref.state.key} for ref in checkpoints_of(records)] or [set()]
    kept |= last
    if records[-1].kind != "finish":
        kept |= next((keys for keys in older if keys <= there), set())
    return kept


def _term(keys: RunKeys, key: str) -> int | None:
    """The claim term of whoever put this object; None for a key that this package did not make."""
    name = keys.part_name(key) or keys.checkpoint_name(key)
    return None if name is None else name.term
