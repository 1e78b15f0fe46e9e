"""The rules that every run log keeps, as a function of its records alone. Reads no store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ray_darts.artifacts.records import Record


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
        yield f"{where} follows a finish"
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
