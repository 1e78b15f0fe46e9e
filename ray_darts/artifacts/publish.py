"""Publishes a finished run: the documents that its finish record names, then its offer to be the best.

Each document is a function of the log alone, so publishing may stop anywhere, happen twice, or be done again by
anybody. Nothing is published before the finish record.
"""

from __future__ import annotations

from ray_darts.artifacts.answer import is_ranked
from ray_darts.artifacts.architecture import architecture_of
from ray_darts.artifacts.best import candidate, offer_best
from ray_darts.artifacts.crash_points import crash_point
from ray_darts.artifacts.experiment import read_experiment, read_run, space_layout
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.publications import FinishedRun, publications_of
from ray_darts.artifacts.released import refuse_only_copy
from ray_darts.artifacts.run_log import Entry, find_tip, read_log
from ray_darts.errors import StoreError


def publish_run(store: ObjectStore, experiment: str, run: str) -> list[str]:
    """Publish what is missing of a finished run and offer it as the best; returns the keys that were put.

    When nothing is missing, this reads the log's end, checks that each document exists, and reads `best.json`.
    Raises: StoreError when the run has not finished, CorruptObject when the log contradicts its finish record,
    MissingObject when a document is missing that the log can no longer make.
    """
    keys = RunKeys(experiment, run)
    tip = find_tip(store, keys)
    if tip is None or tip.record.kind != "finish":
        raise StoreError(f"{run} has not finished: nothing of it is published", run=run)
    named = publications_of(tip.record, keys.record(tip.record.n))
    missing = [name for name in named if not store.exists(keys.document(name))]
    put = [keys.document(name) for name in missing]
    if missing:
        for name in missing:
            refuse_only_copy(keys, tip.record, name)
        finished = load_finished(store, keys)
        for name in missing:
            crash_point(f"publish.before_{name.partition('.')[0]}")
            store.put(keys.document(name), named[name].make(finished))
    if is_ranked(tip.record):
        crash_point("publish.before_best")
        if offer_best(store, candidate(keys, read_run(store, experiment, run), tip)):
            put.append(ExperimentKeys(experiment).best)
        crash_point("publish.after_best")
    return put


def load_finished(store: ObjectStore, keys: RunKeys, log: list[Entry] | None = None) -> FinishedRun:
    """Read a finished run's log, unless it is given, and descriptions. Raises: StoreError when it has not finished."""
    log = read_log(store, keys) if log is None else log
    if not log or log[-1].record.kind != "finish":
        raise StoreError(f"{keys.run} has not finished: nothing of it is published", run=keys.run)
    layout = space_layout(read_experiment(store, keys.experiment))
    described = read_run(store, keys.experiment, keys.run)
    return FinishedRun(store, keys, architecture_of(layout, described), described, log)
