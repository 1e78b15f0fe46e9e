"""Parts: the alphas of a stretch of steps as one small Parquet object, one row per step.

A part holds flat alpha vectors; `traces` names them. Anything but exactly this schema is refused. Knows no run.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_darts.errors import CorruptObject

PART_SCHEMA_VERSION = "1"


class Rows(NamedTuple):
    """Alphas after each of some consecutive steps: steps and epochs int32 [n], alphas float32 [n, num_alphas]."""

    steps: NDArray[np.int32]
    epochs: NDArray[np.int32]
    alphas: NDArray[np.float32]

    def cut(self, start: int, stop: int) -> Rows:
        """The rows start..stop-1."""
        return Rows(self.steps[start:stop], self.epochs[start:stop], self.alphas[start:stop])


def encode_part(rows: Rows) -> bytes:
    """Build the object in memory; a half-written one can never be put."""
    num_alphas = rows.alphas.shape[1]
    flat = pa.array(np.ascontiguousarray(rows.alphas, dtype=np.float32).reshape(-1))
    table = pa.Table.from_arrays(
        [
            pa.array(rows.steps.astype(np.int32)),
            pa.array(rows.epochs.astype(np.int32)),
            pa.FixedSizeListArray.from_arrays(flat, num_alphas),
        ],
        schema=_schema(num_alphas),
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False)
    return bytes(sink.getvalue())


def decode_part(data: bytes, key: str, num_alphas: int, first: int, last: int) -> Rows:
    """Read a part and check that it holds exactly the rows it is named for. Raises: CorruptObject."""
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise CorruptObject(f"{key} is no Parquet file: {error}", key=key) from error
    wanted = _schema(num_alphas)
    if not table.schema.equals(wanted) or (table.schema.metadata or {}).get(b"schema_version") != b"1":
        raise CorruptObject(f"{key} has another schema than a part of {num_alphas} alphas:\n{table.schema}", key=key)
    steps = table["step"].to_numpy()
    if not np.array_equal(steps, np.arange(first, last + 1)):
        raise CorruptObject(f"{key} does not hold the steps {first} to {last} once each", key=key)
    alphas = table["alphas"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Rows(steps, table["epoch"].to_numpy(), alphas.reshape(len(steps), num_alphas))


def _schema(num_alphas: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("step", pa.int32(), nullable=False),
            pa.field("epoch", pa.int32(), nullable=False),
            pa.field("alphas", pa.list_(pa.field("item", pa.float32(), nullable=False), num_alphas), nullable=False),
        ],
        metadata={"schema_version": PART_SCHEMA_VERSION},
    )
