"""The rules that every run log keeps, and the steps that its parts hold, as functions of its records alone.

Reads no store.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from ray_darts.artifacts.records import PartRef, Record

_OF_THE_RECORD = {"schema_version", "n", "nonce", "previous_sha256", "epochs", "commit_seconds", "released"}
"""What a record that releases something does not repeat of the finish before it."""


def steps_of(first: int, last: int, every: int, also: Container[int | None]) -> list[int]:
    """The steps of `first`..`last` whose rows are kept: every `every`-th one of the run, and those in `also`."""
    return [step for step in range(first, last + 1) if step % every == 0 or step in also]


def kept_steps(record: Record, part: PartRef) -> list[int]:
    """The steps of which a part of `record` has rows: each k-th one, those that end an epoch, and the run's last."""
    ends = {record.total_steps, *(epoch.step for epoch in record.epochs)}
    return steps_of(part.first, part.last, record.trace_every_steps, ends)


def broken_rules(log: Sequence[Record]) -> Iterator[str]:
    """Each rule that a log breaks, naming the record; none for a log that only this package wrote."""
    streams = sorted({name for record in log for name in record.streams})
    for n, record in enumerate(log):
        where = f"record {n} ({record.kind})"
        if record.n != n:
            yield f"{where} has the number {record.n}"
        previous = log[n - 1] if n else None
        if previous is None:
            if record.kind != "claim" or record.term != 1 or record.step != 0:
                yield f"{where} is not a first claim"
            continue
        yield from _follows(record, previous, where)
        yield from _rows(record, previous, where, streams)
        if record.kind == "finish" and record.answer is None:
            yield f"{where} has no answer"


def _follows(record: Record, previous: Record, where: str) -> Iterator[str]:
    if previous.kind == "finish":
        yield from _releases(record, previous, where)
        return
    if record.released is not None:
        yield f"{where} releases what a run needs that has not finished"
    if record.config_digest != previous.config_digest:
        yield f"{where} is of another config than the record before it"
    if record.task != previous.task:
        yield f"{where} is of the task {record.task}, the record before it of {previous.task}"
    if record.sessions[: len(previous.sessions)] != previous.sessions:
        yield f"{where} lacks a session of the record before it"
    if record.owner.session == previous.owner.session and record.owner.start < previous.owner.start:
        yield f"{where} is of an earlier start of its session than the record before it"
    if record.kind == "claim" or (record.failure is not None and record.failure.kind == "no_progress"):
        if record.term != previous.term + 1:
            yield f"{where} has term {record.term} after {previous.term}"
        if record.owner.session != record.sessions[-1]:
            yield f"{where} is of a session that was displaced"
        return
    if previous.kind == "fail":
        yield f"{where} follows a failure without a claim"
    if record.term != previous.term or record.owner != previous.owner:
        yield f"{where} is of another writer than the claim before it"


def _releases(record: Record, finish: Record, where: str) -> Iterator[str]:
    """After a finish: the same one again, that says what more is let go."""
    now, before = record.released, finish.released
    if now is None:
        yield f"{where} follows a finish"
        return
    if record.model_dump(exclude=_OF_THE_RECORD) != finish.model_dump(exclude=_OF_THE_RECORD) or record.epochs:
        yield f"{where} is another finish than the record before it"
    if before is None:
        if (now.finish_n, now.finish_sha256) != (finish.n, record.previous_sha256):
            yield f"{where} names another finish than the record before it"
        less, same = False, not (now.streams or now.checkpoint)
    else:
        if (now.finish_n, now.finish_sha256) != (before.finish_n, before.finish_sha256):
            yield f"{where} names another finish than the record before it"
        kept = all(now.documents.get(name) == document for name, document in before.documents.items())
        less = not set(before.streams) <= set(now.streams) or before.checkpoint > now.checkpoint or not kept
        same = (set(now.streams), now.checkpoint) == (set(before.streams), before.checkpoint)
    if less or same:
        yield f"{where} releases nothing more than the record before it"


def _rows(record: Record, previous: Record, where: str, streams: Sequence[str]) -> Iterator[str]:
    """Every stream of the log has one row for each step up to the record's."""
    for name in streams:
        step = previous.step
        for part in record.streams.get(name, ()):
            if part.first != step + 1 or part.last < part.first:
                yield f"{where} holds rows {part.first} to {part.last} of {name} after step {step}"
            step = part.last
        if step != record.step:
            yield f"{where} is at step {record.step}, its rows of {name} end at {step}"
    if record.step < previous.step:
        yield f"{where} is at step {record.step} after step {previous.step}"
    at = 0 if record.checkpoint is None else record.checkpoint.step
    if at != record.step:
        yield f"{where} is at step {record.step}, its checkpoint at {at}"
