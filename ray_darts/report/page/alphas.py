"""The mixing probabilities of a run after every step: from its published trace, else from the parts that its log names.

Parts that were read are kept while a run goes on, so that a page that is made again reads the new ones alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_darts.artifacts.answer import ALPHAS
from ray_darts.artifacts.architecture import RunArchitecture
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Record
from ray_darts.artifacts.trace_schema import probabilities
from ray_darts.artifacts.traces import read_part
from ray_darts.errors import CorruptObject, MissingObject


class ProbabilityReader:
    """Reads the runs of one store, again and again while they go on."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._parts: dict[str, dict[str, NDArray[np.float32]]] = {}

    def read(self, keys: RunKeys, records: Sequence[Record], architecture: RunArchitecture) -> NDArray[np.float32]:
        """The probabilities [steps, width] after the steps 1, 2, ...; NaN for parameters beside alphas.

        Raises: MissingObject, CorruptObject, StoreError; PluginError where an unpublished run's method is missing.
        """
        last = records[-1]
        if last.kind == "finish":
            try:
                found = self._published(keys, architecture.width)
            except MissingObject:  # not published yet
                found = None
            if found is not None and len(found) == last.step:
                self._parts.pop(keys.run, None)
                return found
        return self._from_parts(keys, records, architecture)

    def _published(self, keys: RunKeys, width: int) -> NDArray[np.float32]:
        key = keys.alpha_trace
        data = self._store.get(key).data
        try:
            table = pq.ParquetFile(pa.BufferReader(data)).read(columns=["probability"])
        except (pa.ArrowException, OSError, KeyError) as error:
            raise CorruptObject(f"{key} cannot be read as Parquet: {error}", key=key) from error
        if table.column_names != ["probability"] or len(table) % width:
            raise CorruptObject(f"{key} is no alpha trace of {width} parameters a step", key=key)
        if not pa.types.is_floating(table.schema.field("probability").type):
            raise CorruptObject(f"{key} has probabilities that are no numbers", key=key)
        flat: NDArray[np.float32] = table["probability"].to_numpy().astype(np.float32, copy=False)
        return flat.reshape(-1, width)

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
                    rows = read_part(self._store, keys, part, architecture.width)
                    read[part.key] = probabilities(architecture, rows.values)
                found.append(read[part.key])
                step = part.last
        return np.concatenate(found) if found else np.zeros((0, architecture.width), np.float32)
