"""The alpha trace: every alpha after every step, as a long table that any Parquet tool reads.

Names alphas by the layout and joins parts into one object whose bytes do not depend on how the rows were divided into
parts. Takes the parts from the log, never from a listing; where the log says that the trace stands for them, the trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_darts.artifacts.answer import ALPHAS
from ray_darts.artifacts.architecture import RunArchitecture
from ray_darts.artifacts.concurrent_calls import call_concurrently
from ray_darts.artifacts.descriptions import RunDescription
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.log_rules import kept_steps
from ray_darts.artifacts.objects import ObjectStore, get_checked
from ray_darts.artifacts.parts import Rows, decode_part
from ray_darts.artifacts.records import PartRef, Record
from ray_darts.artifacts.released import read_only_copy
from ray_darts.artifacts.run_log import Entry, find_tip
from ray_darts.artifacts.trace_schema import (
    DICTIONARY_COLUMNS,
    operation_names,
    parameter_kinds,
    probabilities,
    row_names,
    trace_schema,
)
from ray_darts.errors import CorruptObject, MissingObject
from ray_darts.protocols.registry import DEFAULTS

TRACE = "alpha_trace.parquet"
_ROWS_PER_GROUP = 1 << 18
_READERS = 4


def read_rows(store: ObjectStore, keys: RunKeys, log: Sequence[Entry], width: int) -> Iterator[Rows]:
    """All alphas of a run, each kept step of 1..step once; a few parts in memory at a time.

    From the trace where the run's parts have been let go, also since `log` was read. Raises: MissingObject,
    CorruptObject.
    """
    parts = list(_consecutive(keys, log))
    if log and is_compacted(log[-1].record):
        yield from _from_trace(store, keys, log[-1].record, parts, width)
        return
    done = 0
    try:
        for rows in _from_parts(store, keys, parts, width):
            yield rows
            done += 1
    except MissingObject as error:
        yield from _from_trace(store, keys, _compacted_since(store, keys, error), parts, width, done)


def read_row(store: ObjectStore, keys: RunKeys, log: Sequence[Entry], width: int, step: int) -> list[float] | None:
    """The alphas after one step, flat; None where no part holds them. Raises: as `read_rows`."""
    found: Iterable[Rows] = ()
    tip = log[-1].record
    if not is_compacted(tip):
        for record, part in _consecutive(keys, log):
            if part.first <= step <= part.last:
                try:
                    found = [read_part(store, keys, record, part, width)]
                except MissingObject as error:
                    tip = _compacted_since(store, keys, error)
    if is_compacted(tip):
        found = trace_rows(read_only_copy(store, keys, tip, TRACE), keys.alpha_trace, width)
    for rows in found:
        for row in np.flatnonzero(rows.steps == step):
            flat: list[float] = rows.values[row].tolist()
            return flat
    return None


def is_compacted(record: Record) -> bool:
    """Whether the trace stands for the parts of alphas of the run whose last record this is."""
    return record.released is not None and ALPHAS in record.released.streams


def _compacted_since(store: ObjectStore, keys: RunKeys, missing: MissingObject) -> Record:
    """The last record of a run whose part is missing, if it says why. Raises: `missing`, if it does not."""
    tip = find_tip(store, keys)
    if tip is None or not is_compacted(tip.record):
        raise missing
    return tip.record


def _from_parts(
    store: ObjectStore, keys: RunKeys, parts: Sequence[tuple[Record, PartRef]], width: int
) -> Iterator[Rows]:
    def read(part: tuple[Record, PartRef]) -> Rows:
        return read_part(store, keys, *part, width)

    threads = 1 if len(parts) <= 2 * _READERS else _READERS  # of few, threads would cost more than they save
    yield from call_concurrently(read, parts, threads)


def _from_trace(
    store: ObjectStore,
    keys: RunKeys,
    tip: Record,
    parts: Sequence[tuple[Record, PartRef]],
    width: int,
    done: int = 0,
) -> Iterator[Rows]:
    """The rows of `parts` after the first `done` ones, from the trace of a run whose last record is `tip`."""
    before = sum(len(kept_steps(record, part)) for record, part in parts[:done])
    wanted = [step for record, part in parts for step in kept_steps(record, part)]
    position = 0
    for rows in trace_rows(read_only_copy(store, keys, tip, TRACE), keys.alpha_trace, width):
        rows = rows.cut(0, len(wanted) - position)  # the log may be older than the run's end
        if not np.array_equal(rows.steps, wanted[position : position + len(rows.steps)]):
            raise CorruptObject(f"{keys.alpha_trace} has other steps than the log names", key=keys.alpha_trace)
        seen, position = position, position + len(rows.steps)
        if position > before:
            yield rows.cut(max(0, before - seen), len(rows.steps))
    if position < len(wanted):
        raise CorruptObject(f"{keys.alpha_trace} lacks steps that the log names", key=keys.alpha_trace)


def trace_rows(data: bytes, key: str, width: int) -> Iterator[Rows]:
    """The alphas of an alpha_trace.parquet with `width` parameters a step, a group at a time. Raises: CorruptObject."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, columns=["epoch", "step", "alpha"], use_threads=False)
            steps, epochs, values = (
                table[name].to_numpy().astype(kind, copy=False).reshape(-1, width)
                for name, kind in (("step", np.int32), ("epoch", np.int32), ("alpha", np.float32))
            )
            if (steps != steps[:, :1]).any() or (epochs != epochs[:, :1]).any():
                raise CorruptObject(f"{key} has steps of other than {width} parameters", key=key)
            yield Rows(steps[:, 0], epochs[:, 0], values)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise CorruptObject(f"{key} is no alpha trace of {width} parameters a step: {error}", key=key) from error


def _consecutive(keys: RunKeys, log: Sequence[Entry]) -> Iterator[tuple[Record, PartRef]]:
    """The parts of alphas in order, each with its record.

    Raises: CorruptObject unless there are none, or they hold every step up to each record's once.
    """
    if not any(ALPHAS in entry.record.streams for entry in log):
        return  # a task without alphas
    step = 0
    for entry in log:
        key = keys.record(entry.record.n)
        for part in entry.record.streams.get(ALPHAS, ()):
            if part.first != step + 1:
                raise CorruptObject(f"{key} names rows from step {part.first}, those before end at {step}", key=key)
            step = part.last
            yield entry.record, part
        if step != entry.record.step:
            raise CorruptObject(f"{key} is at step {entry.record.step}, its rows end at {step}", key=key)


def read_part(
    store: ObjectStore, keys: RunKeys, record: Record, part: PartRef, width: int, stream: str = ALPHAS
) -> Rows:
    """Read one part of a record's stream and check its key, hash, schema and rows.

    Raises: MissingObject, CorruptObject.
    """
    name = keys.check_part(part.key)
    if (name.first, name.last) != (part.first, part.last):
        raise CorruptObject(f"the key {part.key} is of other steps than {part.first} to {part.last}", key=part.key)
    data = get_checked(store, part.key, part.sha256)
    kept = None if record.trace_every_steps == 1 else kept_steps(record, part)
    return decode_part(data, part.key, width, part.first, part.last, stream, kept)


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
            whole = max(_ROWS_PER_GROUP, architecture.width)  # a step lies in one group
            writer.write_table(trace_table(architecture, run, rows), row_group_size=whole)
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
