"""Parts: the rows of one stream for some steps as one small Parquet object, at most one row per step.

A row is one float32 vector, in a column named after the stream; `traces` names the entries of the stream `alphas`.
Every other schema is refused. Knows no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_darts.errors import CorruptObject

PART_SCHEMA_VERSION = "1"


class Rows(NamedTuple):
    """Values after each of some steps: steps and epochs int32 [n], values float32 [n, width]."""

    steps: NDArray[np.int32]
    epochs: NDArray[np.int32]
    values: NDArray[np.float32]

    def cut(self, start: int, stop: int) -> Rows:
        """The rows start..stop-1."""
        return Rows(self.steps[start:stop], self.epochs[start:stop], self.values[start:stop])


def encode_part(rows: Rows, stream: str = "alphas") -> bytes:
    """Build the whole object in memory, so that only a complete one can be put."""
    width = rows.values.shape[1]
    flat = pa.array(np.ascontiguousarray(rows.values, dtype=np.float32).reshape(-1))
    table = pa.Table.from_arrays(
        [
            pa.array(rows.steps.astype(np.int32)),
            pa.array(rows.epochs.astype(np.int32)),
            pa.FixedSizeListArray.from_arrays(flat, width),
        ],
        schema=_schema(stream, width),
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False)
    return bytes(sink.getvalue())


def decode_part(
    data: bytes,
    key: str,
    width: int,
    first: int,
    last: int,
    stream: str = "alphas",
    kept: Sequence[int] | None = None,
) -> Rows:
    """Read a part and check that it holds exactly the steps `first` to `last`, or those of them that are `kept`.

    Raises: CorruptObject.
    """
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise CorruptObject(f"{key} is no Parquet file: {error}", key=key) from error
    wanted = _schema(stream, width)
    if not table.schema.equals(wanted) or (table.schema.metadata or {}).get(b"schema_version") != b"1":
        raise CorruptObject(f"{key} has another schema than a part of {width} {stream}:\n{table.schema}", key=key)
    steps = table["step"].to_numpy()
    if not np.array_equal(steps, range(first, last + 1) if kept is None else kept):
        some = "" if kept is None else f"those {len(kept)} kept of "
        raise CorruptObject(f"{key} does not hold {some}the steps {first} to {last} once each", key=key)
    values = table[stream].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Rows(steps, table["epoch"].to_numpy(), values.reshape(len(steps), width))


def _schema(stream: str, width: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("step", pa.int32(), nullable=False),
            pa.field("epoch", pa.int32(), nullable=False),
            pa.field(stream, pa.list_(pa.field("item", pa.float32(), nullable=False), width), nullable=False),
        ],
        metadata={"schema_version": PART_SCHEMA_VERSION},
    )
