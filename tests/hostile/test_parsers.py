"""Every parser, given anything: it returns or raises an error of ours, soon; what it takes it takes again the same."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_darts.api import read_genotype, write_text
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.records import Record
from ray_darts.cli.job_file import read_job
from ray_darts.cli.request import parse_seeds
from ray_darts.config import load_config
from ray_darts.errors import ConfigError, CorruptObject, GenotypeError
from ray_darts.genotype.genotype import Genotype

GENOTYPE = read_genotype("DARTS_V2")
TEXT, DATA = write_text(GENOTYPE), GENOTYPE.to_data()

anything = settings(
    max_examples=60, deadline=1000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
"""Whatever JSON holds."""


def edited(text: str) -> st.SearchStrategy[str]:
    """The text with a piece of it cut out, doubled, or replaced by any other."""
    places = st.tuples(st.integers(0, len(text)), st.integers(0, 30), st.text(max_size=12))
    return places.map(lambda p: text[: p[0]] + p[2] + text[p[0] + p[1] :])


@anything
@given(st.text() | edited(TEXT) | edited(json.dumps(DATA)) | plain.map(json.dumps))
def test_genotypes(text: str) -> None:
    with contextlib.suppress(GenotypeError):
        found = read_genotype(text)
        assert read_genotype(found.to_json()) == found


@anything
@given(plain | st.fixed_dictionaries(dict.fromkeys(DATA, plain)))
def test_the_data_of_genotypes(data: object) -> None:
    with contextlib.suppress(GenotypeError):
        found = Genotype.from_data(data)
        assert Genotype.from_data(found.to_data()) == found


@anything
@given(st.text() | st.from_regex(r"(search|data|space|weights)\.[a-z_]{1,12} ?= ?\S{0,12}", fullmatch=True))
def test_overrides(override: str) -> None:
    with contextlib.suppress(ConfigError):
        config = load_config("digits", overrides=[override])
        assert load_config(settings=config.model_dump(mode="json")) == config


@anything
@given(st.text(max_size=30) | st.from_regex(r"[0-9, ]{0,30}", fullmatch=True))
def test_seeds(text: str) -> None:
    with contextlib.suppress(ConfigError):
        found = parse_seeds(text)
        assert parse_seeds(str(found) if isinstance(found, int) else ",".join(map(str, found)) + ",") == found


@anything
@given(st.text(max_size=40) | st.from_regex(r"(s3|file|gs)?(:|://)?[a-z/.~-]{0,12}", fullmatch=True))
def test_stores(uri: str) -> None:
    with contextlib.suppress(ConfigError):
        open_store(uri)


@anything
@given(st.binary() | st.text().map(str.encode) | edited("seeds = 3\n[set]\nsearch.epochs = 3\n").map(str.encode))
def test_job_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "job.toml").write_bytes(content)
    with contextlib.suppress(ConfigError):
        assert all(isinstance(word, str) for word in read_job(tmp_path / "job.toml"))


@anything
@given(
    st.binary()
    | plain.map(json.dumps).map(str.encode)
    | plain.map(lambda p: json.dumps({"schema_version": p}).encode())
)
def test_records(data: bytes) -> None:
    with contextlib.suppress(CorruptObject):
        record = Record.from_bytes(data, "log/0.json")
        assert Record.from_bytes(record.to_bytes(), "log/0.json") == record


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"schema_version":' * 5000, b'{"schema_version": ' + b"9" * 5000 + b"}"]
)
def test_records_nested_thousands_deep(data: bytes) -> None:
    with pytest.raises(CorruptObject, match="no JSON document"):
        Record.from_bytes(data, "log/0.json")
