"""A part is exactly its schema and its rows, or it is refused naming its key."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_darts.artifacts.parts import Rows, decode_part, encode_part
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.traces import read_rows
from ray_darts.errors import CorruptObject
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import KEYS, LAYOUT, whole_run

ROWS = Rows(
    np.arange(4, 9, dtype=np.int32),
    np.array([0, 0, 1, 1, 1], np.int32),
    np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32),
)


def test_rows_come_back_bit_for_bit() -> None:
    seen = decode_part(encode_part(ROWS), "part", 7, 4, 8)
    for there, back in zip(ROWS, seen, strict=True):
        np.testing.assert_array_equal(there, back, strict=True)


def changed(change: Callable[[pa.Table], pa.Table]) -> bytes:
    """The same part after a change of its table."""
    sink = pa.BufferOutputStream()
    pq.write_table(change(pq.read_table(pa.BufferReader(encode_part(ROWS)))), sink)
    return bytes(sink.getvalue())


class _Label(pa.ExtensionType):  # type: ignore[misc]  # pyarrow has no types
    def __init__(self) -> None:
        super().__init__(pa.int32(), "tests.label")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> _Label:
        return cls()


def _extension(table: pa.Table) -> pa.Table:
    return table.set_column(0, "step", pa.ExtensionArray.from_storage(_Label(), table["step"].combine_chunks()))


def _wider(table: pa.Table) -> pa.Table:
    return table.set_column(0, "step", table["step"].cast(pa.int64()))


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns("epoch"),
        lambda table: table.append_column("more", table["epoch"]),
        lambda table: table.replace_schema_metadata({"schema_version": "2"}),
        lambda table: table.replace_schema_metadata(None),
        _wider,
        _extension,
    ],
    ids=["missing column", "more columns", "newer version", "no version", "wider steps", "extension type"],
)
def test_another_schema_is_refused_naming_the_key(change: Callable[[pa.Table], pa.Table]) -> None:
    with pytest.raises(CorruptObject, match="the-key"):
        decode_part(changed(change), "the-key", 7, 4, 8)


@pytest.mark.parametrize("data", [b"", b"PAR1", encode_part(ROWS)[:-30], b"x" * 1000])
def test_what_is_no_parquet_is_refused_naming_the_key(data: bytes) -> None:
    with pytest.raises(CorruptObject, match="the-key"):
        decode_part(data, "the-key", 7, 4, 8)


@pytest.mark.parametrize(("num_alphas", "first", "last"), [(8, 4, 8), (7, 4, 9), (7, 3, 8), (7, 5, 9)])
def test_other_rows_than_the_parts_name_says_are_refused(num_alphas: int, first: int, last: int) -> None:
    with pytest.raises(CorruptObject):
        decode_part(encode_part(ROWS), "part", num_alphas, first, last)


def test_a_part_with_another_hash_is_refused_naming_it() -> None:
    store = MemoryStore()
    whole_run(store)
    log = read_log(store, KEYS)
    key = log[2].record.parts[0].key
    store.objects[key] = store.objects[log[1].record.parts[0].key]
    with pytest.raises(CorruptObject, match=key):
        list(read_rows(store, KEYS, log, LAYOUT.num_alphas))
