"""What must hold of every run log, as a function of its records alone. Reads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ray_darts.artifacts.records import Record


def broken_rules(log: Sequence[Record]) -> Iterator[str]:
    """Each rule that a log breaks, naming the record; none for a log that only this package wrote."""
    for n, record in enumerate(log):
        where = f"record {n} ({record.kind})"
        if record.n != n:
            yield f"{where} calls itself {record.n}"
        previous = log[n - 1] if n else None
        if previous is None:
            if record.kind != "claim" or record.epoch != 1 or record.step != 0:
                yield f"{where} is no first claim"
            continue
        yield from _follows(record, previous, where)
        yield from _rows(record, previous, where)
        if record.kind == "finish" and (record.genotype is None or record.metric is None):
            yield f"{where} has no answer"


def _follows(record: Record, previous: Record, where: str) -> Iterator[str]:
    if previous.kind == "finish":
        yield f"{where} follows a finish"
    if record.config_digest != previous.config_digest:
        yield f"{where} is of another config than the record before it"
    if record.sessions[: len(previous.sessions)] != previous.sessions:
        yield f"{where} forgets a session"
    if record.kind == "claim" or (record.failure is not None and record.failure.kind == "no_progress"):
        if record.epoch != previous.epoch + 1:
            yield f"{where} has epoch {record.epoch} after {previous.epoch}"
        if record.owner.session != record.sessions[-1]:
            yield f"{where} is of a session that was displaced"
        return
    if previous.kind == "fail":
        yield f"{where} follows a failure without a claim"
    if record.epoch != previous.epoch or record.owner != previous.owner:
        yield f"{where} is of another writer than the claim before it"


def _rows(record: Record, previous: Record, where: str) -> Iterator[str]:
    step = previous.step
    for part in record.parts:
        if part.first != step + 1 or part.last < part.first:
            yield f"{where} holds rows {part.first} to {part.last} after step {step}"
        step = part.last
    if step != record.step:
        yield f"{where} is at step {record.step}, its rows end at {step}"
    at = 0 if record.checkpoint is None else record.checkpoint.step
    if at != record.step:
        yield f"{where} is at step {record.step}, its checkpoint at {at}"
