"""Broken compactions, each with one line of thought replaced; the schedules of `compaction_protocol` must catch those
of the list, and its meetings of two collectors the one beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ray_darts.artifacts import collect, compact, publish, run_log, traces
from ray_darts.artifacts.compact import Release
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore, sha256
from ray_darts.artifacts.publications import FinishedRun, alpha_trace_bytes
from ray_darts.artifacts.records import KeptDocument, Record
from ray_darts.artifacts.run_log import Entry
from ray_darts.errors import MissingObject

Patch = pytest.MonkeyPatch


def compact_before_publish(patch: Patch) -> None:
    def checked_documents(finished: FinishedRun, wanted: Release) -> dict[str, KeptDocument]:
        made = {"alpha_trace.parquet": alpha_trace_bytes(finished)} if wanted.streams else {}
        return {name: KeptDocument(sha256=sha256(data), num_bytes=len(data)) for name, data in made.items()}

    patch.setattr(compact, "checked_documents", checked_documents)


def delete_parts_before_the_record_that_lets_them_go(patch: Patch) -> None:
    put = run_log.put_record

    def put_record(store: ObjectStore, keys: RunKeys, record: Record) -> Entry | None:
        assert record.released is not None
        for entry in list(store.list_objects(keys.parts)) if record.released.streams else ():
            store.delete(entry.key)
        return put(store, keys, record)

    patch.setattr(compact, "put_record", put_record)


def compact_under_a_claim(patch: Patch) -> None:
    find, load, check = compact.releasable, publish.load_finished, compact.checked_documents

    def releasable(log: list[Entry], keys: RunKeys, *, parts: bool, checkpoint: bool) -> Release | None:
        finished = [
            Entry(entry.record.model_copy(update={"kind": "finish"}), entry.digest, entry.age_s) for entry in log
        ]
        return find(finished, keys, parts=parts, checkpoint=checkpoint)

    def load_finished(store: ObjectStore, keys: RunKeys, log: list[Entry]) -> FinishedRun | None:
        return load(store, keys, log) if log[-1].record.kind == "finish" else None

    def checked_documents(finished: FinishedRun | None, wanted: Release) -> dict[str, KeptDocument]:
        return {} if finished is None else check(finished, wanted)

    for module in (compact, collect):
        patch.setattr(module, "releasable", releasable)
    patch.setattr(compact, "load_finished", load_finished)
    patch.setattr(compact, "checked_documents", checked_documents)


def delete_though_another_collector_was_first(patch: Patch) -> None:
    put = run_log.put_record

    def put_record(store: ObjectStore, keys: RunKeys, record: Record) -> Entry | None:
        return put(store, keys, record) or Entry(record, "", 0.0)

    patch.setattr(compact, "put_record", put_record)


def read_parts_and_never_the_log_again(patch: Patch) -> None:
    def compacted_since(store: ObjectStore, keys: RunKeys, missing: MissingObject) -> Record:
        raise missing

    patch.setattr(traces, "_compacted_since", compacted_since)


COMPACTION_MUTANTS: list[Callable[[Patch], None]] = [
    compact_before_publish,
    delete_parts_before_the_record_that_lets_them_go,
    compact_under_a_claim,
    read_parts_and_never_the_log_again,
]
