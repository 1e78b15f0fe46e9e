"""Documents are strict: versioned, complete, without NaN, and the same bytes for the same content."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import ClassVar

import pytest
from pydantic import Field

from ray_darts.artifacts.documents import Document, Facts, canonical_json
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
    ("change", "message"),
    [
        (lambda data: _with(data, schema_version=4), "schema version 4, this release reads up to 3"),
        (lambda data: _with(data, schema_version="1"), "schema version '1'"),
        (lambda data: _without(data, "schema_version"), "no JSON document with a schema_version"),
        (lambda data: _without(data, "nonce"), "nonce"),
        (lambda data: _with(data, surprise=1), "surprise"),
        (lambda data: _with(data, step="7"), "step"),
        (lambda data: _with(data, kind="pause"), "kind"),
        (lambda data: data[:-10], "no JSON"),
        (lambda data: b"[]", "no JSON"),
        (lambda data: b"\xff", "no JSON"),
        (lambda data: data.replace(b'"value":0.5', b'"value":NaN'), "NaN is not JSON"),
    ],
)
def test_another_document_is_refused_naming_key_and_field(
    finish: bytes, change: Callable[[bytes], bytes], message: str
) -> None:
    with pytest.raises(CorruptObject, match=message) as raised:
        Record.from_bytes(change(finish), "the-key")
    assert "the-key" in str(raised.value)


def test_an_older_document_without_a_later_field_is_read(finish: bytes) -> None:
    assert Record.from_bytes(_without(finish, "commit_seconds"), "key").commit_seconds is None


class _Run(Facts):
    name: str


class _LaterRun(_Run):
    """The same with what a later release added."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"method", "groups"})

    method: str = "softmax"
    groups: tuple[str, ...] = Field(default_factory=lambda: ("alphas",))


class _Described(Document):
    run: _LaterRun


def test_an_added_fact_at_its_default_leaves_the_bytes_alone() -> None:
    plain = _LaterRun(name="a", method="softmax", groups=("alphas",)).model_dump(mode="json")
    assert plain == _Run(name="a").model_dump(mode="json")
    assert json.loads(_Described(run=_LaterRun(name="a")).to_bytes())["run"] == {"name": "a"}


def test_an_added_fact_that_says_something_is_written_and_read_again() -> None:
    described = _Described(run=_LaterRun(name="a", method="gumbel"))
    assert json.loads(described.to_bytes())["run"] == {"name": "a", "method": "gumbel"}
    assert _Described.from_bytes(described.to_bytes(), "key") == described


def test_a_document_without_an_added_fact_means_its_default() -> None:
    data = canonical_json({"schema_version": 1, "run": {"name": "a"}})
    assert _Described.from_bytes(data, "key").run == _LaterRun(name="a", method="softmax")


def test_a_head_is_a_document() -> None:
    assert json.loads(Head(n=3).to_bytes()) == {"n": 3, "schema_version": 1}
