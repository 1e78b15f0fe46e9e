"""Reads a run's log and claims the run: finds the last record, checks who may take over, appends records.

The log is records 0, 1, 2, … without a gap, each created once and never replaced; of several writers that create record
n, the first one decides it. A claim raises the term, and no earlier writer can append after it. Knows nothing of what a
run computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from ray_darts.artifacts.concurrent_calls import THREADS, call_concurrently
from ray_darts.artifacts.contention import until_settled
from ray_darts.artifacts.crash_points import crash_point
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore, create, sha256
from ray_darts.artifacts.records import EndKind, Environment, Failure, Head, Owner, Record
from ray_darts.errors import ConfigError, CorruptObject, MissingObject, RunFailed, RunFinished, Superseded

MAX_IDLE_CLAIMS = 5


@dataclass(frozen=True)
class Entry:
    """A record and its object in the store: `digest` is the SHA-256 of its bytes, `age_s` by the store's clock."""

    record: Record
    digest: str
    age_s: float

    @property
    def finish_n(self) -> int:
        """Of a finish: the number of the record that finished the run, which later ones repeat."""
        released = self.record.released
        return self.record.n if released is None else released.finish_n

    @property
    def finish_digest(self) -> str:
        """Of a finish: the digest of record `finish_n`."""
        released = self.record.released
        return self.digest if released is None else released.finish_sha256

    @classmethod
    def read(cls, store: ObjectStore, keys: RunKeys, n: int) -> Entry | None:
        """Record n, None when there is none. Raises: CorruptObject."""
        key = keys.record(n)
        try:
            stored = store.get(key)
        except MissingObject:
            return None
        record = Record.from_bytes(stored.data, key)
        if record.n != n:
            raise CorruptObject(f"{key} has the number of record {record.n}", key=key)
        return cls(record, sha256(stored.data), stored.age_s)


def find_tip(store: ObjectStore, keys: RunKeys) -> Entry | None:
    """The last record, None for an empty log: from the head's hint, galloping, then bisecting; never a LIST."""
    low = _hinted(store, keys) or Entry.read(store, keys, 0)
    return None if low is None else _last_from(store, keys, low)


def find_newer(store: ObjectStore, keys: RunKeys, known: int | None) -> Entry | None:
    """The last record after record `known`; None when there is none. For readers alone, with fewer requests.

    `known`: a record that was once the last one; -1 for an empty log, None where nothing is known. One request when
    nothing follows it, two when one record does. A finish is taken for the end: of a finished run this misses a record
    that repeats the finish, and nothing else that `find_tip` would find.
    """
    if known is None:
        low = _hinted(store, keys) or Entry.read(store, keys, 0)
    else:
        low = Entry.read(store, keys, known + 1)
        if low is None or low.record.kind == "finish":
            return low
        later = Entry.read(store, keys, known + 2)
        if later is None:
            return low
        hinted = None if later.record.kind == "finish" else _hinted(store, keys)
        low = later if hinted is None or hinted.record.n < later.record.n else hinted
    if low is None or low.record.kind == "finish":
        return low
    return _last_from(store, keys, low)


def _last_from(store: ObjectStore, keys: RunKeys, low: Entry) -> Entry:
    """The last record, from one that is there: galloping, then bisecting."""
    stride = 1
    while (entry := Entry.read(store, keys, low.record.n + stride)) is not None:
        low = entry
        stride *= 2
    high = low.record.n + stride
    while high - low.record.n > 1:
        middle = (low.record.n + high) // 2
        entry = Entry.read(store, keys, middle)
        if entry is None:
            high = middle
        else:
            low = entry
    return low


def _hinted(store: ObjectStore, keys: RunKeys) -> Entry | None:
    try:
        head = Head.from_bytes(store.get(keys.head).data, keys.head)
    except (MissingObject, CorruptObject):
        return None
    return Entry.read(store, keys, head.n) if head.n >= 0 else None


def read_log(store: ObjectStore, keys: RunKeys) -> list[Entry]:
    """All records in order, the chain of hashes checked; empty for an empty log.

    Raises: CorruptObject, also where parts of the run are there and its log is not.
    """
    tip = find_tip(store, keys)
    if tip is None:
        if any(True for _ in store.list_objects(keys.parts)):
            raise CorruptObject(f"{keys.log} is missing, although {keys.parts} is there", key=keys.log)
        return []
    threads = 1 if tip.record.n < THREADS else THREADS  # of few, threads would cost more than they save
    entries = call_concurrently(lambda n: Entry.read(store, keys, n), range(tip.record.n), threads)
    return list(_chained([*entries, tip], keys))


def _chained(entries: list[Entry | None], keys: RunKeys) -> Iterator[Entry]:
    previous: str | None = None
    for n, entry in enumerate(entries):
        key = keys.record(n)
        if entry is None:
            raise CorruptObject(f"{key} is missing although a later record exists", key=key)
        if entry.record.previous_sha256 != previous:
            raise CorruptObject(f"{key} does not follow the record before it: their hashes differ", key=key)
        previous = entry.digest
        yield entry


def put_record(store: ObjectStore, keys: RunKeys, record: Record) -> Entry | None:
    """Append; None when another record got this number first. Safe to call again after StoreUnavailable."""
    data = record.to_bytes()
    name = record.kind if record.released is None else "release"
    crash_point(f"{name}.before_record")
    if create(store, keys.record(record.n), data) is not None:
        return None
    crash_point(f"{name}.after_record")
    return Entry(record, sha256(data), 0.0)


def claim(
    store: ObjectStore,
    keys: RunKeys,
    owner: Owner,
    config_digest: str,
    environment: Environment,
    retry_failed: bool = False,
    task: str = "search",
    previous_end: EndKind | None = None,
) -> Entry:
    """Take the run over: append a claim after the last record; a repeated call finds the claim it made before.

    A session takes a run over once; after another session has done so, it ends. `previous_end`: how the start
    before this one is known to have ended; five in a row that ended by themselves (out of memory, a broken device)
    without an advance end the run, those that somebody killed or whose machine was lost do not. `config_digest` is
    that of `experiment.json`. Raises: Superseded, RunFinished, RunFailed, ConfigError when the log is of another
    experiment's config or another task, StoreError where the server refuses every record.
    """

    def attempt() -> Entry | None:
        tip = find_tip(store, keys)
        if tip is not None:
            if tip.record.kind == "claim" and tip.record.owner.uuid == owner.uuid:
                return put_record(store, keys, tip.record) or tip  # by a call that may not have flushed it
            _check_task(tip.record, task)
            _check_claimable(tip.record, owner, config_digest, retry_failed)
        record = _claim_record(tip, owner, config_digest, environment, task, previous_end)
        if record.idle_claims > MAX_IDLE_CLAIMS:
            put_record(store, keys, _no_progress(record))
            return None  # the record just put, by us or another writer, refuses the claim
        return put_record(store, keys, record)

    return until_settled(store, keys.log, attempt, "must show a new object to every read that follows")


def _check_task(tip: Record, task: str) -> None:
    if tip.task != task:
        raise ConfigError(f"the run's log is of the task {tip.task!r}, not {task!r}: give the run another name")


def _check_claimable(tip: Record, owner: Owner, config_digest: str, retry_failed: bool) -> None:
    if tip.config_digest != config_digest:
        raise ConfigError(
            f"the run's log is of config {tip.config_digest[:8]}, not {config_digest[:8]}: "
            "give the experiment another name"
        )
    if tip.kind == "finish":
        raise ended(tip)
    displaced = owner.session in tip.sessions and owner.session != tip.sessions[-1]
    if displaced or (owner.session == tip.owner.session and owner.start < tip.owner.start):
        raise superseded(tip, owner)
    if tip.kind == "fail" and (not retry_failed or tip.owner.session == owner.session):
        raise ended(tip)


def ended(tip: Record) -> RunFinished | RunFailed:
    """The error of a writer that would append after a run's last record."""
    if tip.kind == "finish":
        return RunFinished(f"the run has finished at step {tip.step}", step=tip.step)
    assert tip.failure is not None
    return RunFailed(
        f"the run failed at step {tip.step}: {tip.failure.kind}: {tip.failure.detail}; "
        "--retry-failed goes on from there",
        kind=tip.failure.kind,
        detail=tip.failure.detail,
        step=tip.step,
    )


def superseded(holder: Record, loser: Owner) -> Superseded:
    """The error of a writer, `loser`, that finds another writer's record in the place of its own."""
    owner = holder.owner
    who = "another start of the same command" if owner.session == loser.session else "a newer command"
    return Superseded(
        f"{who} holds this run: session {owner.session[:8]} on {owner.host} (pid {owner.pid}), at step {holder.step}",
        holder=owner.model_dump(),
    )


def _claim_record(
    tip: Entry | None,
    owner: Owner,
    config_digest: str,
    environment: Environment,
    task: str,
    previous_end: EndKind | None,
) -> Record:
    fresh = Record(
        n=0,
        nonce=uuid4().hex,
        previous_sha256=None,
        kind="claim",
        term=1,
        task=task,
        owner=owner,
        sessions=(owner.session,),
        idle_claims=1,
        written_at=now_text(),
        config_digest=config_digest,
        environment=environment,
        step=0,
    )
    if tip is None:
        return fresh
    last = tip.record
    displaces = not last.is_last and last.owner.session != owner.session
    above = {
        "n": last.n + 1,
        "previous_sha256": tip.digest,
        "term": last.term + 1,
        "displaced": last.owner if displaces else None,
        "displaced_age_s": tip.age_s if displaces else None,
        "sessions": last.sessions if owner.session in last.sessions else (*last.sessions, owner.session),
        "previous_end": previous_end,
        "idle_claims": 1 if last.is_last else max(1, last.idle_claims + (previous_end == "itself")),
        "failures": last.failures + (previous_end in ("itself", "process")),
        "preemptions": last.preemptions + (previous_end == "node"),
        "spent": last.spent,
        "step": last.step,
        "total_steps": last.total_steps,
        "checkpoint": last.checkpoint,
        "latest": last.latest,
    }
    return fresh.model_copy(update=above)


def _no_progress(claim_record: Record) -> Record:
    failure = Failure(
        kind="no_progress",
        detail=f"{MAX_IDLE_CLAIMS} starts in a row ended by themselves (out of memory, a broken device) before "
        f"anything was committed after step {claim_record.step}",
    )
    return claim_record.model_copy(update={"kind": "fail", "failure": failure})


def now_text() -> str:
    """The present time in UTC, as text for people."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_head(store: ObjectStore, keys: RunKeys, n: int) -> None:
    """Write the hint where the log's end is."""
    store.put(keys.head, Head(n=n).to_bytes())
