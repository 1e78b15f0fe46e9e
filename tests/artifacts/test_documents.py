"""Documents are strict: versioned, complete, without NaN, and the same bytes for the same content."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ray_darts.artifacts.documents import canonical_json
from ray_darts.artifacts.records import Head, Record
from ray_darts.errors import CorruptObject
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import KEYS, whole_run


@pytest.fixture
def finish() -> bytes:
    """The bytes of a finish record."""
    store = MemoryStore()
    writer = whole_run(store)
    return store.objects[KEYS.record(writer.record.n)]


def test_a_record_comes_back_and_is_the_same_bytes_again(finish: bytes) -> None:
    assert Record.from_bytes(finish, "key").to_bytes() == finish


def test_json_is_canonical(finish: bytes) -> None:
    assert canonical_json({"b": [1.5, None], "a": "é"}) == '{"a":"é","b":[1.5,null]}\n'.encode()
    assert finish == canonical_json(json.loads(finish))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_no_json(value: float) -> None:
    with pytest.raises(ValueError):
        canonical_json({"value": value})


def _without(data: bytes, name: str) -> bytes:
    return canonical_json({key: value for key, value in json.loads(data).items() if key != name})


def _with(data: bytes, **more: object) -> bytes:
    return canonical_json({**json.loads(data), **more})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: _with(data, schema_version=2), "schema version 2, this release reads up to 1"),
        (lambda data: _with(data, schema_version="1"), "schema version '1'"),
        (lambda data: _without(data, "schema_version"), "no JSON document with a schema_version"),
        (lambda data: _without(data, "nonce"), "nonce"),
        (lambda data: _with(data, surprise=1), "surprise"),
        (lambda data: _with(data, step="7"), "step"),
        (lambda data: _with(data, kind="pause"), "kind"),
        (lambda data: data[:-10], "no JSON"),
        (lambda data: b"[]", "no JSON"),
        (lambda data: b"\xff", "no JSON"),
        (lambda data: data.replace(b'"value":0.5', b'"value":NaN'), "value|JSON"),
    ],
)
def test_another_document_is_refused_naming_key_and_field(
    finish: bytes, change: Callable[[bytes], bytes], told: str
) -> None:
    with pytest.raises(CorruptObject, match=told) as raised:
        Record.from_bytes(change(finish), "the-key")
    assert "the-key" in str(raised.value)


def test_an_older_document_without_a_later_field_is_read(finish: bytes) -> None:
    assert Record.from_bytes(_without(finish, "commit_seconds"), "key").commit_seconds is None


def test_a_head_is_a_document() -> None:
    assert json.loads(Head(n=3).to_bytes()) == {"n": 3, "schema_version": 1}
