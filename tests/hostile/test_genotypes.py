"""Genotypes as people paste them: what is none is refused in one message, whatever is in it."""

from __future__ import annotations

import json

import pytest

from ray_darts.api import read_genotype, write_text
from ray_darts.errors import GenotypeError

GENOTYPE = read_genotype("DARTS_V2")
TEXT, DATA = write_text(GENOTYPE), GENOTYPE.to_data()
JSON = json.dumps(DATA)


def changed(**more: object) -> str:
    return json.dumps({**DATA, **more})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither the JSON of a genotype nor the text form of a space"),
        (f"a = b = {TEXT}", "one call of Genotype with named fields is wanted"),
        (f"{TEXT}; import os", "one call of Genotype"),
        (TEXT.replace("normal=", "**x, normal="), r"\*\* is not read"),
        (TEXT.replace("normal=", "\uff4eormal="), "other letters than ASCII outside its strings"),
        (TEXT.replace("sep_conv_3x3", "\uff53ep_conv_3x3"), "unknown operation"),
        (TEXT.replace("Genotype", "\uff27enotype"), "neither the JSON of a genotype nor the text form"),
        ("Genotype(" * 5000, "not a Genotype"),
        (f"Genotype(normal={'[' * 5000}", "not a Genotype"),
        (f"Genotype(normal={'9' * 5000})", "not a Genotype|normal"),
        ('{"a":' * 5000, "not the JSON of a genotype"),
        (changed(schema_version=0), "there is no such version, the first one is 1"),
        (changed(schema_version=-1), "there is no such version"),
        (changed(schema_version=99), "install a newer one"),
        (changed(schema_version=True), "schema_version"),
        (changed(schema_version="1"), "schema_version"),
        (JSON.replace('"schema_version": 1', f'"schema_version": {"9" * 5000}'), "not the JSON of a genotype"),
        (changed(**{"a\nb\x1b[31m": 1}), r"unknown 'a\\nb\\x1b\[31m'"),
        (changed(**{"x" * 10_000: 1}), r"\(10000 characters\)"),
        (changed(cells=[]), "cell"),
        (changed(cells={}), "cells"),
        (JSON.replace("NaN", "1").replace('"source": 0', '"source": NaN'), "source|JSON"),
    ],
)
def test_each_is_one_message(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message) as caught:
        read_genotype(text)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_what_is_one_is_read_back_the_same() -> None:
    assert read_genotype(TEXT) == read_genotype(f"a = {TEXT}") == read_genotype(JSON) == GENOTYPE
