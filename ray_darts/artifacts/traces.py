"""The alpha trace: every alpha after every step, as a long table that any Parquet tool reads.

Names alphas by the layout and joins parts into one object whose bytes do not depend on how the rows were divided into
parts. Takes the parts from the log, never from a listing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_darts.artifacts.answer import ALPHAS
from ray_darts.artifacts.architecture import RunArchitecture
from ray_darts.artifacts.concurrent_reads import read_concurrently
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore, get_checked
from ray_darts.artifacts.parts import Rows, decode_part
from ray_darts.artifacts.records import PartRef, RunDescription
from ray_darts.artifacts.run_log import Entry
from ray_darts.artifacts.trace_schema import (
    DICTIONARY_COLUMNS,
    operation_names,
    parameter_kinds,
    probabilities,
    row_names,
    trace_schema,
)
from ray_darts.errors import CorruptObject
from ray_darts.protocols.registry import DEFAULTS

_ROWS_PER_GROUP = 1 << 18
_READERS = 4


def read_rows(store: ObjectStore, keys: RunKeys, log: Sequence[Entry], width: int) -> Iterator[Rows]:
    """All alphas of a run, part by part, steps 1..step once each; a few parts in memory at a time.

    Raises: MissingObject, CorruptObject.
    """
    parts = list(_consecutive(keys, log))
    yield from read_concurrently(lambda part: read_part(store, keys, part, width), parts, _READERS)


def _consecutive(keys: RunKeys, log: Sequence[Entry]) -> Iterator[PartRef]:
    """The parts of alphas in order. Raises: CorruptObject unless there are none, or they hold every step up
    to each record's once."""
    if not any(ALPHAS in entry.record.streams for entry in log):
        return  # a task without alphas
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


def read_part(store: ObjectStore, keys: RunKeys, part: PartRef, width: int, stream: str = ALPHAS) -> Rows:
    """Read one part of a stream and check its key, hash, schema and rows. Raises: MissingObject, CorruptObject."""
    name = keys.check_part(part.key)
    if (name.first, name.last) != (part.first, part.last):
        raise CorruptObject(f"the key {part.key} is of other steps than {part.first} to {part.last}", key=part.key)
    return decode_part(get_checked(store, part.key, part.sha256), part.key, width, part.first, part.last, stream)


def trace_table(architecture: RunArchitecture, run: RunDescription, rows: Rows) -> pa.Table:
    """Name the parameters of some steps: one row per step and parameter, in the order of the flat rows."""
    num_steps, width = len(rows.steps), architecture.width
    layout, schema = architecture.layout, trace_schema(architecture)
    names = row_names(architecture)
    num_rows = num_steps * width

    def constant(text: str) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(num_rows, np.int16)), pa.array([text]))

    def tiled(name: str) -> pa.Array:
        return pa.array(np.tile(names[name], num_steps))

    def named(name: str, texts: list[str]) -> pa.Array:
        numbers = np.tile(names[name], num_steps)
        known = pa.array(numbers, mask=numbers < 0) if (numbers < 0).any() else pa.array(numbers)
        return pa.DictionaryArray.from_arrays(known, pa.array(texts))

    columns = {
        "run": lambda: constant(run.run),
        "order": lambda: pa.nulls(num_rows, schema.field("order").type) if run.order is None else constant(run.order),
        "seed": lambda: pa.array(np.full(num_rows, run.seed, np.int64)),
        "epoch": lambda: pa.array(np.repeat(rows.epochs.astype(np.int32), width)),
        "step": lambda: pa.array(np.repeat(rows.steps.astype(np.int32), width)),
        "cell": lambda: named("cell", [cell.name for cell in layout.cells]),
        "edge": lambda: tiled("edge"),
        "source": lambda: tiled("source"),
        "target": lambda: tiled("target"),
        "operation": lambda: named("operation", operation_names(layout)),
        "alpha": lambda: pa.array(np.ascontiguousarray(rows.values).reshape(-1)),
        "probability": lambda: _known(probabilities(architecture, rows.values).reshape(-1)),
        "method": lambda: constant(str((run.method or {}).get("kind", DEFAULTS["method"]))),
        "parameter": lambda: named("parameter", parameter_kinds(architecture)),
    }
    return pa.Table.from_arrays([columns[name]() for name in schema.names], schema=schema)


def _known(values: NDArray[np.float32]) -> pa.Array:
    """Null where there is no number."""
    unknown = np.isnan(values)
    return pa.array(values, mask=unknown) if unknown.any() else pa.array(values)


def trace_bytes(architecture: RunArchitecture, run: RunDescription, parts: Iterable[Rows]) -> bytes:
    """alpha_trace.parquet, built in memory; row groups hold the same steps however the rows were divided into parts."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        trace_schema(architecture),
        compression="zstd",
        use_dictionary=DICTIONARY_COLUMNS,
        use_byte_stream_split=["alpha", "probability"],
    ) as writer:
        for rows in _regrouped(parts, max(1, _ROWS_PER_GROUP // architecture.width)):
            writer.write_table(trace_table(architecture, run, rows), row_group_size=_ROWS_PER_GROUP)
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
