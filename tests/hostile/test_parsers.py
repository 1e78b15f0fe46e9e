"""Every parser, given anything (`parsers` says what it must do), within a second and 200 MB."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_darts.api import read_genotype
from ray_darts.artifacts.records import Record
from ray_darts.errors import CorruptObject, GenotypeError
from ray_darts.genotype.genotype import Genotype
from tests.hostile.bounds import bounded
from tests.hostile.parsers import DARTS_V2, JOB, JSON, PARSERS, RECORD, TEXT

pytestmark = pytest.mark.timeout(120)  # what waits

anything = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
"""Whatever JSON holds."""
plain_json = plain.map(json.dumps)


def edited(text: str) -> st.SearchStrategy[str]:
    """The text with a piece of it cut out, doubled, or replaced by any other."""
    places = st.tuples(st.integers(0, len(text)), st.integers(0, 30), st.text(max_size=12))
    return places.map(lambda p: text[: p[0]] + p[2] + text[p[0] + p[1] :])


INPUTS = {
    "genotypes": st.text() | edited(TEXT) | edited(JSON) | plain_json,
    "overrides": st.text() | st.from_regex(r"(search|data|space|weights)\.[a-z_]{1,12} ?= ?\S{0,12}", fullmatch=True),
    "seeds": st.text(max_size=30) | st.from_regex(r"[0-9, ]{0,30}", fullmatch=True),
    "stores": st.text(max_size=40) | st.from_regex(r"(s3|file|gs)?(:|://)?[a-z/.~-]{0,12}", fullmatch=True),
    "job_files": st.text() | edited(JOB),
    "records": plain_json
    | edited(RECORD.decode())
    | plain.map(lambda version: json.dumps({"schema_version": version})),
}


@pytest.mark.parametrize("parser", PARSERS)
@given(st.data())
@anything
def test_texts(parser: str, data: st.DataObject) -> None:
    text = data.draw(INPUTS[parser])
    with bounded(2):
        PARSERS[parser][0](text.encode(errors="surrogateescape"))


@pytest.mark.parametrize("parser", PARSERS)
@given(st.binary())
@anything
def test_bytes(parser: str, data: bytes) -> None:
    with bounded(2):
        PARSERS[parser][0](data)


@pytest.mark.parametrize("parser", PARSERS)
def test_what_the_fuzzer_begins_with(parser: str) -> None:
    check, seeds = PARSERS[parser]
    for seed in seeds:
        check(seed)


@anything
@given(plain | st.fixed_dictionaries(dict.fromkeys(DARTS_V2.to_data(), plain)))
def test_the_data_of_genotypes(data: object) -> None:
    with contextlib.suppress(GenotypeError):
        found = Genotype.from_data(data)
        assert Genotype.from_data(found.to_data()) == found


@pytest.mark.parametrize(
    ("parser", "data"),
    [
        ("stores", b"~\xff\x0f\x00\x00\x00//////!"),
        ("genotypes", JSON.replace('"num_inputs":2', f'"num_inputs":3{"0" * 30}').encode()),
    ],
)
def test_what_the_fuzzer_found(parser: str, data: bytes) -> None:
    with bounded(2):
        PARSERS[parser][0](data)


def test_genotypes_in_each_form_are_the_same() -> None:
    for text in (TEXT, f"a = {TEXT}", JSON):
        assert read_genotype(text) == DARTS_V2


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"schema_version":' * 5000, b'{"schema_version": ' + b"9" * 5000 + b"}"]
)
def test_records_nested_thousands_deep(data: bytes) -> None:
    with pytest.raises(CorruptObject, match="no JSON document"):
        Record.from_bytes(data, "log/0.json")
