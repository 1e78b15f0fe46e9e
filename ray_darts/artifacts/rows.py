"""The rows of a commit: whether they fill its steps, which are kept, and which are new after a fallback to an older
checkpoint.

Steps that are computed again are compared with the rows in the store and never written twice. Writes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ray_darts.artifacts.checkpoints import Checkpoint, checkpoints_of, load_checkpoint
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.log_rules import steps_of
from ray_darts.artifacts.objects import ObjectStore, sha256
from ray_darts.artifacts.records import PartRef, Record
from ray_darts.artifacts.run_log import read_log
from ray_darts.errors import CorruptObject, MissingObject, NonFiniteAlphas
from ray_darts.tasks.metrics import EpochMetrics

logger = logging.getLogger(__name__)


class StepRows(NamedTuple):
    """What a commit adds for n consecutive steps: streams float32 [n, width], epochs [n], metrics of ended epochs."""

    streams: Mapping[str, NDArray[np.float32]]
    epochs: NDArray[np.int32]
    metrics: Sequence[EpochMetrics]


def encode_rows(
    keys: RunKeys, first: int, last: int, term: int, rows: StepRows, every: int, total_steps: int | None
) -> tuple[dict[str, tuple[PartRef, ...]], list[tuple[str, bytes]]]:
    """({stream: its part}, [(key, bytes)]) of the rows of `first`..`last` that are kept; none where last < first.

    Those of each `every`-th step of the run, of the last step of an epoch, and of step `total_steps`.
    """
    from ray_darts.artifacts.parts import Rows, encode_part

    ends = {total_steps, *(epoch.step for epoch in rows.metrics)}
    kept = np.array(steps_of(first, last, every, ends), np.int32)
    refs: dict[str, tuple[PartRef, ...]] = {}
    objects: list[tuple[str, bytes]] = []
    for stream, values in rows.streams.items() if first <= last else ():
        data = encode_part(Rows(kept, rows.epochs[kept - first], values[kept - first]), stream)
        key = keys.part(first, last, term, uuid4().hex)
        refs[stream] = (PartRef(key=key, sha256=sha256(data), num_bytes=len(data), first=first, last=last),)
        objects.append((key, data))
    return refs, objects


def check_rows(first: int, last: int, rows: StepRows) -> None:
    """Raise ValueError unless every stream has one row for each step, NonFiniteAlphas where a value is not finite."""
    num_rows = last - first + 1
    for stream, values in rows.streams.items():
        if values.ndim != 2 or len(values) != num_rows or rows.epochs.shape != (num_rows,):
            raise ValueError(
                f"steps {first} to {last} need {num_rows} rows, got {stream} {values.shape} and epochs "
                f"{rows.epochs.shape}"
            )
        if not np.isfinite(values).all():
            raise NonFiniteAlphas(f"a value of {stream} between the steps {first} and {last} is not finite")


def fall_back(
    store: ObjectStore, keys: RunKeys, last: Record, error: MissingObject | CorruptObject
) -> tuple[Checkpoint, Replay]:
    """The newest older checkpoint that can be read, for a run whose last one raised `error`; `last`: its last record.

    Raises: the error with what to do, where none can be read.
    """
    log = [entry.record for entry in read_log(store, keys) if entry.record.n <= last.n]
    damaged, *older = checkpoints_of(log)
    for ref in older:
        try:
            checkpoint = load_checkpoint(store, keys, ref)
        except (MissingObject, CorruptObject):
            continue
        logger.warning(
            "the checkpoint of step %d cannot be read: %s. The steps after %d are computed again and compared with "
            "the rows in the store",
            damaged.step,
            error,
            ref.step,
        )
        return checkpoint, Replay(store, keys, log, ref.step)
    raise type(error)(
        f"{error}, and no older checkpoint can be read: restore it from a backup or an older version of the object, "
        "or search under another name (--name)",
        key=error.key,
    ) from error


class Replay:
    """Steps that are computed again, from `step` + 1 to the last durable one of `log`."""

    def __init__(self, store: ObjectStore, keys: RunKeys, log: Sequence[Record], step: int) -> None:
        self._store, self._keys, self._log = store, keys, log
        self._step = step

    def new_rows(self, last: int, rows: StepRows) -> StepRows:
        """Of the rows after those of the call before, up to `last`, those that are not durable yet.

        Raises: CorruptObject where a durable row is another one.
        """
        first, durable = self._step + 1, self._log[-1].step
        check_rows(first, last, rows)
        num_known = min(last, durable) - self._step
        for stream, values in rows.streams.items():
            self._compare(first, stream, values[:num_known], rows.epochs[:num_known])
        self._step = last
        ended = self._log[-1].latest.get("epoch", -1)
        return StepRows(
            {stream: values[num_known:] for stream, values in rows.streams.items()},
            rows.epochs[num_known:],
            [metrics for metrics in rows.metrics if metrics.epoch > int(ended or 0)],
        )

    def _compare(self, first: int, stream: str, values: NDArray[np.float32], epochs: NDArray[np.int32]) -> None:
        from ray_darts.artifacts.traces import read_part

        last = first + len(values) - 1
        for record, part in ((each, part) for each in self._log for part in each.streams.get(stream, ())):
            start, stop = max(first, part.first), min(last, part.last)
            if start > stop:
                continue
            rows = read_part(self._store, self._keys, record, part, values.shape[1], stream)
            there = rows.cut(*np.searchsorted(rows.steps, [start, stop + 1]).tolist())
            ours = there.steps - first
            if (there.values.tobytes(), there.epochs.tolist()) != (values[ours].tobytes(), epochs[ours].tolist()):
                raise CorruptObject(
                    f"the steps {start} to {stop}, computed again because the last checkpoint cannot be read, differ "
                    f"from the rows of {part.key}: continue with the number of workers and threads and on the type of "
                    "machine that `ray-darts status` names, or restore the checkpoint",
                    key=part.key,
                )
