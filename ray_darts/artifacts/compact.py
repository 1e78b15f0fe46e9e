"""Lets a finished run go of its parts, where its published trace holds every value of them, and of its last checkpoint.

First a record after the finish says so, with the documents that stand for them from then on; deleting is left to
`collect`, which follows the log. So a kill anywhere leaves a state that the next collection finishes, and of two
collectors one appends the record and both delete. Nothing is recorded before it was compared.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from ray_darts.artifacts.contention import until_settled
from ray_darts.artifacts.crash_points import crash_point
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore, sha256
from ray_darts.artifacts.publications import FinishedRun, Publication, publications_of
from ray_darts.artifacts.publish import load_finished, publish_run
from ray_darts.artifacts.records import KeptDocument, Record, Released
from ray_darts.artifacts.released import is_only_copy, read_only_copy
from ray_darts.artifacts.run_log import Entry, find_tip, now_text, put_record, read_log, write_head
from ray_darts.artifacts.verify import same_table
from ray_darts.errors import CorruptObject, MissingObject, StoreError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Release:
    """What a finished run lets go: the parts of `streams`, and the last checkpoint."""

    streams: tuple[str, ...] = ()
    checkpoint: bool = False

    @classmethod
    def of(cls, record: Record) -> Release:
        """What the run whose last record this is has let go already."""
        released = record.released
        return cls() if released is None else cls(released.streams, released.checkpoint)


def releasable(log: Sequence[Entry], keys: RunKeys, *, parts: bool, checkpoint: bool) -> Release | None:
    """All that a run lets go, once it lets go of its parts or its last checkpoint too; None where that is no more than
    it has let go already, and for a run that has not finished. Raises: CorruptObject for unknown documents."""
    if not log or log[-1].record.kind != "finish":
        return None
    record = log[-1].record
    before = Release.of(record)
    streams = set(before.streams)
    if parts:
        there = {name for entry in log for name in entry.record.streams}
        documents = publications_of(record, keys.record(log[-1].finish_n)).values()
        streams |= there & {stream for publication in documents for stream in publication.streams}
    wanted = Release(tuple(sorted(streams)), before.checkpoint or (checkpoint and record.checkpoint is not None))
    return None if wanted == before else wanted


def release(store: ObjectStore, keys: RunKeys, *, parts: bool = False, checkpoint: bool = False) -> list[Entry]:
    """Record what a finished run lets go, if it is more than before; returns the log as it is then. Deletes nothing.

    Raises: MissingObject for a document that is not published, CorruptObject for one that differs from what the log
    says, and as `read_log`.
    """

    def attempt() -> list[Entry] | None:
        log = read_log(store, keys)
        wanted = releasable(log, keys, parts=parts, checkpoint=checkpoint)
        if wanted is None:
            return log
        documents = checked_documents(load_finished(store, keys, log), wanted)
        entry = put_record(store, keys, _record(log[-1], wanted, documents))
        if entry is None:
            return None  # another collector was first: read what it recorded
        try:
            write_head(store, keys, entry.record.n)
        except StoreError as error:  # only a hint
            logger.info("head hint not written: %s", error)
        return [*log, entry]

    return until_settled(store, keys.log, attempt, "must show a new object to every read that follows")


def checked_documents(finished: FinishedRun, wanted: Release) -> dict[str, KeptDocument]:
    """The documents that stand for what is let go, each as the log says. Raises: MissingObject, CorruptObject."""
    store, keys, record = finished.store, finished.keys, finished.finish
    kept: dict[str, KeptDocument] = {}
    for name, publication in publications_of(record, finished.finish_key).items():
        key = keys.document(name)
        stands = (wanted.checkpoint and publication.from_checkpoint) or not set(publication.streams).isdisjoint(
            wanted.streams
        )
        if is_only_copy(record, name):
            data = read_only_copy(store, keys, record, name)
        elif stands:
            data = _published(finished, key, publication)
        elif not store.exists(key):
            raise MissingObject(f"{key} is not published: `ray-darts verify --repair`, or search again", key=key)
        else:
            continue
        kept[name] = KeptDocument(sha256=sha256(data), num_bytes=len(data))
    return kept


def _published(finished: FinishedRun, key: str, publication: Publication) -> bytes:
    """What is published, if it is what the log says, value for value."""
    publication.check(finished)
    try:
        data = finished.store.get(key).data
    except MissingObject as error:
        raise MissingObject(f"{key} is not published: `ray-darts verify --repair`, or search again", key=key) from error
    wanted = publication.make(finished)
    if data == wanted:
        return data
    if not publication.streams or not same_table(data, wanted) or not _same_rows(finished, key, data, wanted):
        raise CorruptObject(f"{key} differs from what the log says: `ray-darts verify --repair`", key=key)
    return data


def _same_rows(finished: FinishedRun, key: str, data: bytes, wanted: bytes) -> bool:
    """Whether two traces hold the same bits: equal numbers may differ in the sign of a zero."""
    from ray_darts.artifacts.traces import trace_rows

    width = finished.architecture.width
    pairs = zip(trace_rows(data, key, width), trace_rows(wanted, key, width), strict=True)
    return all(
        seen.values.tobytes() == made.values.tobytes() and seen.steps.tolist() == made.steps.tolist()
        for seen, made in pairs
    )


def _record(tip: Entry, wanted: Release, documents: dict[str, KeptDocument]) -> Record:
    released = Released(
        finish_n=tip.finish_n,
        finish_sha256=tip.finish_digest,
        streams=wanted.streams,
        checkpoint=wanted.checkpoint,
        documents=documents,
        at=now_text(),
    )
    changed = {
        "schema_version": 3,
        "n": tip.record.n + 1,
        "nonce": uuid4().hex,
        "previous_sha256": tip.digest,
        "released": released,
    }
    return tip.record.model_copy(update=changed)


def conclude_run(store: ObjectStore, experiment: str, run: str, keep_checkpoints: int) -> list[str]:
    """Publish a finished run; with no checkpoint to keep, let go of its last one. Returns the keys that were put.

    Raises: as `publish_run`; StoreUnavailable (calling again is safe).
    """
    put = publish_run(store, experiment, run)
    if keep_checkpoints == 0:
        _drop_checkpoint(store, RunKeys(experiment, run))
    return put


def _drop_checkpoint(store: ObjectStore, keys: RunKeys) -> None:
    tip = find_tip(store, keys)
    if tip is None or releasable([tip], keys, parts=False, checkpoint=True) is None:
        return
    ref = release(store, keys, checkpoint=True)[-1].record.checkpoint
    assert ref is not None
    crash_point("release.before_delete")
    try:
        for file in (ref.tensors, ref.state):
            store.delete(file.key)
    except StoreError as error:
        logger.warning("the last checkpoint stays for now, `ray-darts gc` removes it: %s", error)
