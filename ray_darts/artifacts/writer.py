"""Single writer of a claimed run: makes steps durable, ends the run, deletes its own superseded checkpoints.

Rows and checkpoint become visible in the same record. Every call may be repeated after StoreUnavailable with the
same arguments: an object that has been put is not put again, and a record whose reply was lost is found by its nonce.
Does not interpret rows or answers, which are the task's.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ray_darts.artifacts.checkpoints import Checkpoint, encode_checkpoint, load_checkpoint
from ray_darts.artifacts.crash_points import crash_point
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore, create
from ray_darts.artifacts.publications import accept_finish
from ray_darts.artifacts.records import EndKind, Environment, Failure, Owner, Record
from ray_darts.artifacts.rows import Replay, StepRows, check_rows, encode_rows, fall_back
from ray_darts.artifacts.run_log import Entry, claim, ended, now_text, put_record, superseded, write_head
from ray_darts.artifacts.superseded import BY_DEFAULT, Keeping, SupersededCheckpoints
from ray_darts.errors import CorruptObject, MissingObject, RayDartsError, StoreUnavailable
from ray_darts.tasks.metrics import EpochMetrics

logger = logging.getLogger(__name__)

_NOT_REPEATED = {
    "displaced",
    "displaced_age_s",
    "previous_end",
    "streams",
    "epochs",
    "commit_seconds",
    "answer",
    "documents",
    "failure",
    "schema_version",
    "trace_every_steps",
}


@dataclass
class _Pending:
    """A record that is not acknowledged yet, and the objects to put before it, each with the crash point after it."""

    record: Record
    objects: deque[tuple[str, bytes, str]] = field(default_factory=deque)


def claim_run(
    store: ObjectStore,
    experiment: str,
    run: str,
    owner: Owner,
    config_digest: str,
    environment: Environment,
    *,
    task: str = "search",
    retry_failed: bool = False,
    keeping: Keeping = BY_DEFAULT,
    previous_end: EndKind | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> RunWriter:
    """Claim a run and return its writer; called by rank 0 of each worker-group start, before it loads anything.

    `config_digest` is that of `experiment.json`, whose identity the caller has compared with its own;
    `previous_end` as in `claim`; `clock`: seconds, for what the run has spent.
    Raises: Superseded, RunFinished, RunFailed, ConfigError, StoreUnavailable (calling again is safe).
    """
    keys = RunKeys(experiment, run)
    claimed = claim(store, keys, owner, config_digest, environment, retry_failed, task, previous_end)
    return RunWriter(store, keys, claimed, keeping, clock)


class RunWriter:
    """Appends to the log of a claimed run until it ends or a newer claim fences it (Superseded). One thread only."""

    def __init__(
        self,
        store: ObjectStore,
        keys: RunKeys,
        claimed: Entry,
        keeping: Keeping,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._claimed_at, self._spent_before = clock, clock(), claimed.record.spent
        self._store = store
        self._keys = keys
        self._tip = claimed
        self._pending: _Pending | None = None
        self._keeping = keeping
        self._superseded = SupersededCheckpoints(store, keeping.checkpoints)
        if claimed.record.checkpoint is not None:
            self._superseded.add(claimed.record.checkpoint)
        self._replay: Replay | None = None
        self.displaced = claimed.record.displaced
        self.displaced_age_s = claimed.record.displaced_age_s
        self._hint()

    @property
    def term(self) -> int:
        """Of the claim; a claim of a higher term fences this writer."""
        return self._tip.record.term

    @property
    def step(self) -> int:
        """The last durable step."""
        return self._tip.record.step

    @property
    def record(self) -> Record:
        """The last acknowledged record."""
        return self._tip.record

    def load_checkpoint(self) -> Checkpoint | None:
        """The state after `step`, or an older one where that cannot be read; None at the start of a run.

        After an older one the caller's rows begin after its step. Raises: Superseded, MissingObject, CorruptObject.
        """
        ref = self._tip.record.checkpoint
        try:
            return None if ref is None else load_checkpoint(self._store, self._keys, ref)
        except (MissingObject, CorruptObject) as error:
            self._check_fenced()
            checkpoint, self._replay = fall_back(self._store, self._keys, self.record, error)
            return checkpoint

    def advance(
        self,
        step: int,
        rows: Mapping[str, NDArray[np.float32]],
        epochs: NDArray[np.int32],
        metrics: Sequence[EpochMetrics],
        checkpoint: Checkpoint,
        commit_seconds: float | None = None,
        total_steps: int | None = None,
    ) -> None:
        """Make everything up to `step` durable and visible at once.

        `rows` (stream name to float32 [n, width]) and `epochs` [n] are the rows of the n steps after the last durable
        one; a search has the stream `alphas`. `encode_rows` says which of them are kept. `metrics` are of the epochs
        that ended in these steps; `commit_seconds` is how long the commit before took. After a fallback of
        `load_checkpoint` the rows are those after the older checkpoint or the call before; what is durable already is
        compared, not written.
        Raises: Superseded, StoreUnavailable (call again with the same arguments), NonFiniteAlphas.
        """
        if self._pending is None:
            added = StepRows(rows, epochs, metrics)
            if self._replay is not None:
                added = self._replay.new_rows(step, added)
                if step < self.step:
                    return
                self._replay = None
            self._pending = self._prepare_advance(step, added, checkpoint, commit_seconds, total_steps)
        self._check_pending("advance", step)
        acknowledged = self._commit()
        assert acknowledged.checkpoint is not None
        self._superseded.add(acknowledged.checkpoint)
        self._superseded.clear()

    def finish(self, answer: Mapping[str, JsonValue], documents: Sequence[str]) -> None:
        """End the run with the task's answer; `documents` names what is published from the log, in order.

        Raises: ValueError for an answer that these documents cannot be made of; otherwise as advance.
        """
        if self._pending is None:
            record = self._next("finish", answer=dict(answer), documents=tuple(documents))
            accept_finish(record)
            self._pending = _Pending(record)
        self._check_pending("finish", self.step)
        self._commit()
        self._superseded.keep = self._keeping.checkpoints_after_finish
        self._superseded.clear()

    def fail(self, kind: str, detail: str, facts: Mapping[str, JsonValue] | None = None) -> None:
        """End the run without an answer; only a retry that is asked for continues it. Raises: as advance."""
        if self._pending is None:
            failure = Failure(kind=kind, detail=detail, facts=dict(facts or {}))
            self._pending = _Pending(self._next("fail", failure=failure))
        self._check_pending("fail", self.step)
        self._commit()

    def _prepare_advance(
        self,
        step: int,
        rows: StepRows,
        checkpoint: Checkpoint,
        commit_seconds: float | None,
        total_steps: int | None,
    ) -> _Pending:
        check_rows(self.step + 1, step, rows)
        total_steps = self.record.total_steps if total_steps is None else total_steps
        every = self._keeping.trace_every_steps
        streams, parts = encode_rows(self._keys, self.step + 1, step, self.term, rows, every, total_steps)
        objects = deque((key, data, "advance.after_part") for key, data in parts)
        keys = self._keys.checkpoint(step, self.term, uuid4().hex)
        encoded = encode_checkpoint(keys, step, checkpoint)
        objects.append((keys.tensors, encoded.tensors, "advance.between_checkpoint_files"))
        objects.append((keys.state, encoded.state, "advance.after_checkpoint"))
        record = self._next(
            "advance",
            step=step,
            idle_claims=0,
            streams=streams,
            checkpoint=encoded.ref,
            epochs=tuple(rows.metrics),
            latest=rows.metrics[-1].scalars() if rows.metrics else self.record.latest,
            commit_seconds=commit_seconds,
            total_steps=total_steps,
            **({"trace_every_steps": every, "schema_version": 3} if streams and every > 1 else {}),
        )
        return _Pending(record, objects)

    def _next(self, kind: Literal["advance", "finish", "fail"], **changed: object) -> Record:
        """The next record: the repeated fields of the last one, and `changed`. Raises: RunFinished, RunFailed."""
        if self.record.is_last:
            raise ended(self.record)
        repeated = self.record.model_dump(exclude=_NOT_REPEATED)
        return Record.model_validate(
            {
                **repeated,
                "n": self.record.n + 1,
                "nonce": uuid4().hex,
                "previous_sha256": self._tip.digest,
                "kind": kind,
                "spent": self._spent_before.plus(self._clock() - self._claimed_at, self.record.environment),
                "written_at": now_text(),
                **changed,
            }
        )

    def _check_pending(self, kind: str, step: int) -> None:
        assert self._pending is not None
        record = self._pending.record
        if (record.kind, record.step) != (kind, step):
            raise ValueError(
                f"the {record.kind} of step {record.step} was never acknowledged; repeat it before {kind} at {step}"
            )

    def _commit(self) -> Record:
        """Put what is pending, from the object at which an earlier call failed. Returns the acknowledged record."""
        pending = self._pending
        assert pending is not None
        if pending.record.kind == "advance":
            crash_point("advance.before_part")
        while pending.objects:
            key, data, after = pending.objects[0]
            try:
                other = create(self._store, key, data)
            except MissingObject:  # put by an earlier call, and collected since
                self._check_fenced()
                raise
            if other is not None:
                raise CorruptObject(f"{key} is a new key, but another object is there", key=key)
            pending.objects.popleft()
            crash_point(after)
        entry = put_record(self._store, self._keys, pending.record)
        if entry is None:
            self._check_fenced()
            raise StoreUnavailable(f"{self._keys.record(pending.record.n)} is taken, but cannot be read yet")
        self._tip = entry
        self._pending = None
        crash_point(f"{entry.record.kind}.acknowledged")
        self._hint()
        return entry.record

    def _check_fenced(self) -> None:
        """Raise Superseded where another writer's record follows our last one."""
        winner = Entry.read(self._store, self._keys, self.record.n + 1)
        if winner is not None:
            raise superseded(winner.record, self.record.owner)

    def _hint(self) -> None:
        try:
            write_head(self._store, self._keys, self.record.n)
        except RayDartsError as error:  # only a hint: the next record writes it again
            logger.info("head hint not written: %s", error)
