"""The alpha trace: every alpha after every step, as a long table that any Parquet tool reads.

Names alphas by the layout and joins parts into one object whose bytes do not depend on how the rows were divided into
parts. Takes the parts from the log, never from a listing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_darts.artifacts.answer import ALPHAS
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore, get_checked
from ray_darts.artifacts.parts import Rows, decode_part
from ray_darts.artifacts.records import PartRef, RunDescription
from ray_darts.artifacts.run_log import Entry
from ray_darts.errors import CorruptObject
from ray_darts.genotype.layout import SpaceLayout

_ROWS_PER_GROUP = 1 << 18
_READERS = 8
_TEXT = pa.dictionary(pa.int16(), pa.string())
_DICTIONARY_COLUMNS = ["run", "order", "seed", "epoch", "step", "cell", "edge", "source", "target", "operation"]

TRACE_SCHEMA = pa.schema(
    [
        pa.field("run", _TEXT, nullable=False),
        pa.field("order", _TEXT, nullable=False, metadata={"description": "first or second: the alpha gradient"}),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("epoch", pa.int32(), nullable=False, metadata={"description": "of the search, from 0"}),
        pa.field("step", pa.int32(), nullable=False, metadata={"description": "search steps done, from 1"}),
        pa.field("cell", _TEXT, nullable=False),
        pa.field("edge", pa.int16(), nullable=False, metadata={"description": "row of the cell's alphas, from 0"}),
        pa.field("source", pa.int16(), nullable=False, metadata={"description": "state; the inputs come first"}),
        pa.field("target", pa.int16(), nullable=False, metadata={"description": "state that the edge feeds"}),
        pa.field("operation", _TEXT, nullable=False),
        pa.field("alpha", pa.float32(), nullable=False, metadata={"description": "after this step"}),
        pa.field("probability", pa.float32(), nullable=False, metadata={"description": "softmax over the edge"}),
    ],
    metadata={"schema_version": "1"},
)


def read_rows(store: ObjectStore, keys: RunKeys, log: Sequence[Entry], num_alphas: int) -> Iterator[Rows]:
    """All alphas of a run, part by part, steps 1..step once each; a few parts in memory at a time.

    Raises: MissingObject, CorruptObject.
    """
    parts = list(_consecutive(keys, log))
    if len(parts) <= _READERS:
        yield from (read_part(store, keys, part, num_alphas) for part in parts)
        return
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(parts), _READERS):
            few = parts[start : start + _READERS]
            yield from readers.map(lambda part: read_part(store, keys, part, num_alphas), few)


def _consecutive(keys: RunKeys, log: Sequence[Entry]) -> Iterator[PartRef]:
    """The parts of alphas in order. Raises: CorruptObject unless they hold every step up to each record's once."""
    step = 0
    for entry in log:
        key = keys.record(entry.record.n)
        for part in entry.record.streams.get(ALPHAS, ()):
            if part.first != step + 1:
                raise CorruptObject(f"{key} names rows from step {part.first}, those before end at {step}", key=key)
            step = part.last
            yield part
        if step != entry.record.step:
            raise CorruptObject(f"{key} is at step {entry.record.step}, its rows end at {step}", key=key)


def read_part(store: ObjectStore, keys: RunKeys, part: PartRef, num_alphas: int) -> Rows:
    """Read one part of alphas and check its key, hash, schema and rows. Raises: MissingObject, CorruptObject."""
    name = keys.check_part(part.key)
    if (name.first, name.last) != (part.first, part.last):
        raise CorruptObject(f"the key {part.key} is of other steps than {part.first} to {part.last}", key=part.key)
    return decode_part(get_checked(store, part.key, part.sha256), part.key, num_alphas, part.first, part.last)


def trace_table(layout: SpaceLayout, run: RunDescription, rows: Rows) -> pa.Table:
    """Name the alphas of some steps: one row per step, cell, edge and operation, in this order."""
    num_steps = len(rows.steps)
    names = _names(layout)
    num_rows = num_steps * layout.num_alphas

    def constant(text: str) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(num_rows, np.int16)), pa.array([text]))

    def tiled(column: NDArray[np.int16]) -> pa.Array:
        return pa.array(np.tile(column, num_steps))

    columns = {
        "run": constant(run.run),
        "order": constant(run.order),
        "seed": pa.array(np.full(num_rows, run.seed, np.int64)),
        "epoch": pa.array(np.repeat(rows.epochs.astype(np.int32), layout.num_alphas)),
        "step": pa.array(np.repeat(rows.steps.astype(np.int32), layout.num_alphas)),
        "cell": pa.DictionaryArray.from_arrays(tiled(names["cell"]), pa.array([cell.name for cell in layout.cells])),
        "edge": tiled(names["edge"]),
        "source": tiled(names["source"]),
        "target": tiled(names["target"]),
        "operation": pa.DictionaryArray.from_arrays(tiled(names["operation"]), pa.array(_operations(layout))),
        "alpha": pa.array(np.ascontiguousarray(rows.values).reshape(-1)),
        "probability": pa.array(_probabilities(layout, rows.values).reshape(-1)),
    }
    return pa.Table.from_arrays([columns[name] for name in TRACE_SCHEMA.names], schema=TRACE_SCHEMA)


def trace_bytes(layout: SpaceLayout, run: RunDescription, parts: Iterable[Rows]) -> bytes:
    """alpha_trace.parquet, built in memory; row groups hold the same steps however the rows were divided into parts."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        TRACE_SCHEMA,
        compression="zstd",
        use_dictionary=_DICTIONARY_COLUMNS,
        use_byte_stream_split=["alpha", "probability"],
    ) as writer:
        for rows in _regrouped(parts, max(1, _ROWS_PER_GROUP // layout.num_alphas)):
            writer.write_table(trace_table(layout, run, rows), row_group_size=_ROWS_PER_GROUP)
    return bytes(sink.getvalue())


def _regrouped(parts: Iterable[Rows], num_steps: int) -> Iterator[Rows]:
    """The same rows in groups of `num_steps`, the last one shorter."""
    waiting: list[Rows] = []
    held = 0
    for part in parts:
        waiting.append(part)
        held += len(part.steps)
        while held >= num_steps:
            joined = _join(waiting)
            yield joined.cut(0, num_steps)
            waiting = [joined.cut(num_steps, held)]
            held -= num_steps
    if held:
        yield _join(waiting)


def _join(parts: Sequence[Rows]) -> Rows:
    return Rows(
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.epochs for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def _operations(layout: SpaceLayout) -> list[str]:
    """Every operation of the space once, in the order of the cells."""
    return list(dict.fromkeys(name for cell in layout.cells for name in cell.operations))


def _names(layout: SpaceLayout) -> dict[str, NDArray[np.int16]]:
    """Per flat alpha: numbers of its cell and operation, its edge, source and target; int16 [num_alphas] each."""
    operations = _operations(layout)
    rows = [
        (number, edge, source, target, operations.index(operation))
        for number, cell in enumerate(layout.cells)
        for edge, (source, target) in enumerate(cell.edges)
        for operation in cell.operations
    ]
    columns = np.array(rows, dtype=np.int16).T
    return dict(zip(("cell", "edge", "source", "target", "operation"), columns, strict=True))


def _probabilities(layout: SpaceLayout, alphas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the operations of each edge, in float64, rounded to float32 [n, num_alphas]."""
    probabilities = np.empty(alphas.shape, np.float32)
    start = 0
    for cell in layout.cells:
        edges, operations = cell.shape
        stop = start + edges * operations
        cell_alphas = alphas[:, start:stop].reshape(-1, edges, operations).astype(np.float64)
        weights = np.exp(cell_alphas - cell_alphas.max(axis=2, keepdims=True))
        probabilities[:, start:stop] = (weights / weights.sum(axis=2, keepdims=True)).reshape(len(alphas), -1)
        start = stop
    return probabilities
