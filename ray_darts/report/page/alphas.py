"""The mixing probabilities of a run after its steps: from its published trace, else from the parts that its log names.

Parts that were read are kept while a run goes on, so that a page that is made again reads the new ones alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_darts.artifacts.answer import ALPHAS
from ray_darts.artifacts.architecture import RunArchitecture
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.log_rules import kept_steps
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Record
from ray_darts.artifacts.run_log import find_tip
from ray_darts.artifacts.trace_schema import probabilities
from ray_darts.artifacts.traces import is_compacted, read_part
from ray_darts.errors import CorruptObject, MissingObject


class Probabilities(NamedTuple):
    """`steps` int64 [n], those whose rows are kept; `values` [n, width], NaN for parameters beside alphas."""

    steps: NDArray[np.int64]
    values: NDArray[np.float32]

    def after(self, step: int) -> NDArray[np.float32] | None:
        """The row [width] of a step; None where it is not kept."""
        place = int(np.searchsorted(self.steps, step))
        return self.values[place] if place < len(self.steps) and self.steps[place] == step else None


class ProbabilityReader:
    """Reads the runs of one store, again and again while they go on."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._parts: dict[str, dict[str, NDArray[np.float32]]] = {}

    def read(self, keys: RunKeys, records: Sequence[Record], architecture: RunArchitecture) -> Probabilities:
        """The probabilities after the steps that the log keeps.

        Raises: MissingObject, CorruptObject, StoreError; PluginError where an unpublished run's method is missing.
        """
        last, width = records[-1], architecture.width
        parts = [(record, part) for record in records for part in record.streams.get(ALPHAS, ())]
        steps = np.array([step for each in parts for step in kept_steps(*each)], np.int64)
        if last.kind == "finish":
            try:
                found = self._published(keys, width)
            except MissingObject:  # not published yet
                if is_compacted(last):
                    raise
                found = None
            if found is not None and np.array_equal(found.steps, steps):
                self._parts.pop(keys.run, None)
                return found
            if is_compacted(last):
                raise CorruptObject(f"{keys.alpha_trace} has other steps than the log names", key=keys.alpha_trace)
        try:
            return Probabilities(steps, self._from_parts(keys, records, architecture))
        except MissingObject:
            tip = find_tip(self._store, keys)
            if tip is None or not is_compacted(tip.record):
                raise
            found = self._published(keys, width)  # compacted since the log was read
            return Probabilities(steps, found.values[: len(steps)])

    def _published(self, keys: RunKeys, width: int) -> Probabilities:
        key = keys.alpha_trace
        data = self._store.get(key).data
        try:
            table = pq.ParquetFile(pa.BufferReader(data)).read(columns=["step", "probability"])
        except (pa.ArrowException, OSError, KeyError) as error:
            raise CorruptObject(f"{key} cannot be read as Parquet: {error}", key=key) from error
        if table.column_names != ["step", "probability"] or len(table) % width:
            raise CorruptObject(f"{key} is no alpha trace of {width} parameters a step", key=key)
        if not pa.types.is_floating(table.schema.field("probability").type):
            raise CorruptObject(f"{key} has probabilities that are no numbers", key=key)
        if not pa.types.is_integer(table.schema.field("step").type):
            raise CorruptObject(f"{key} has steps that are no numbers", key=key)
        flat: NDArray[np.float32] = table["probability"].to_numpy().astype(np.float32, copy=False)
        steps: NDArray[np.int64] = table["step"].to_numpy().astype(np.int64)[::width]
        return Probabilities(steps, flat.reshape(-1, width))

    def _from_parts(
        self, keys: RunKeys, records: Sequence[Record], architecture: RunArchitecture
    ) -> NDArray[np.float32]:
        read = self._parts.setdefault(keys.run, {})
        found: list[NDArray[np.float32]] = []
        step = 0
        for record in records:
            for part in record.streams.get(ALPHAS, ()):
                if part.first != step + 1:
                    key = keys.record(record.n)
                    raise CorruptObject(f"{key} names rows from step {part.first}, those before end at {step}", key=key)
                if part.key not in read:
                    rows = read_part(self._store, keys, record, part, architecture.width)
                    read[part.key] = probabilities(architecture, rows.values)
                found.append(read[part.key])
                step = part.last
        return np.concatenate(found) if found else np.zeros((0, architecture.width), np.float32)
