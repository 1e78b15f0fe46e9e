"""Genotypes as people paste them into a file."""

from __future__ import annotations

import json

from ray_darts.api import read_genotype, write_text
from tests.hostile.case import Case, file

GENOTYPE = read_genotype("DARTS_V2")
TEXT, DATA = write_text(GENOTYPE), json.loads(GENOTYPE.to_json())
JSON = json.dumps(DATA)


def genotype(text: str, phrase: str) -> Case:
    return Case(("show", "a.txt"), phrase, make=file("a.txt", text.encode()))


def changed(**more: object) -> str:
    return json.dumps({**DATA, **more})


GENOTYPES = (
    genotype("", "neither the JSON of a genotype nor the text form of a space: ''"),
    genotype(f"a = b = {TEXT}", "one call of Genotype with named fields is wanted"),
    genotype(f"{TEXT}; import os", "one call of Genotype"),
    genotype(TEXT.replace("normal=", "**x, normal="), "** is not read"),
    genotype(TEXT.replace("normal=", "\uff4eormal="), "other letters than ASCII outside its strings"),
    genotype(TEXT.replace("sep_conv_3x3", "\uff53ep_conv_3x3"), "unknown operation"),
    genotype(TEXT.replace("Genotype", "\uff27enotype"), "neither the JSON of a genotype nor the text form"),
    genotype("Genotype(" * 5000, "not a Genotype"),
    genotype(f"Genotype(normal={'[' * 5000}", "not a Genotype"),
    genotype(f"Genotype(normal={'9' * 5000})", "not a Genotype"),
    genotype('{"a":' * 5000, "not the JSON of a genotype"),
    genotype(changed(schema_version=0), "there is no such version, the first one is 1"),
    genotype(changed(schema_version=-1), "there is no such version"),
    genotype(changed(schema_version=99), "install a newer one"),
    genotype(changed(schema_version=True), "schema_version"),
    genotype(changed(schema_version="1"), "schema_version"),
    genotype(JSON.replace('"schema_version": 1', f'"schema_version": {"9" * 5000}'), "not the JSON of a genotype"),
    genotype(changed(**{"a\nb\x1b[31m": 1}), r"unknown 'a\nb\x1b[31m'"),
    genotype(changed(**{"x" * 10_000: 1}), "(10000 characters)"),
    genotype(changed(cells=[]), "cell"),
    genotype(JSON.replace('"num_inputs": 2', f'"num_inputs": 3{"0" * 30}'), "at most are 64 and 256"),
    genotype(
        changed(cells=[{**DATA["cells"][0], "nodes": [[{"operation": "none", "source": 0}]] * 257}]), "and 257 nodes"
    ),
    genotype(changed(cells={}), "cells"),
    genotype(JSON.replace("NaN", "1").replace('"source": 0', '"source": NaN'), "JSON"),
)
