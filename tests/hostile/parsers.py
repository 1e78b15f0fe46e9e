"""What each parser does with anything: it returns or raises an error of ours; what it takes it takes again the same.

One function of bytes for each, for hypothesis and for the fuzzer. Words of the command line are decoded as Python does.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ray_darts.api import read_genotype, write_text
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.records import Environment, Owner, PartRef, Record
from ray_darts.cli.job_file import read_job
from ray_darts.cli.request import parse_seeds
from ray_darts.config import load_config
from ray_darts.errors import ConfigError, CorruptObject, GenotypeError

DARTS_V2 = read_genotype("DARTS_V2")
TEXT, JSON = write_text(DARTS_V2), DARTS_V2.to_json()
JOB = 'seeds = 3\npreset = "digits"\nname = "a"\n[set]\nsearch.epochs = 3\n'
RECORD = Record(
    n=1,
    nonce="a",
    previous_sha256="0" * 64,
    kind="advance",
    term=1,
    task="search",
    owner=Owner(session="s", uuid="u", host="h", pid=3),
    sessions=("s",),
    idle_claims=0,
    written_at="2026-01-01T00:00:00+00:00",
    config_digest="0" * 64,
    environment=Environment(code="a", world_size=1, device_kind="cpu", threads=1),
    step=3,
    streams={"steps": (PartRef(key="parts/a", sha256="0" * 64, num_bytes=10, first=1, last=3),)},
).to_bytes()


def genotypes(data: bytes) -> None:
    with contextlib.suppress(GenotypeError):
        found = read_genotype(data.decode(errors="replace"))
        assert read_genotype(found.to_json()) == found


def overrides(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        config = load_config("digits", overrides=[os.fsdecode(data)])
        assert load_config(settings=config.model_dump(mode="json")) == config


def seeds(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        found = parse_seeds(os.fsdecode(data))
        assert parse_seeds(str(found) if isinstance(found, int) else ",".join(map(str, found)) + ",") == found


def stores(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        uri = open_store(os.fsdecode(data)).uri
        assert open_store(uri).uri == uri


def job_files(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ConfigError):
        job = Path(folder) / "job.toml"
        job.write_bytes(data)
        assert all(isinstance(word, str) for word in read_job(job))


def records(data: bytes) -> None:
    with contextlib.suppress(CorruptObject):
        record = Record.from_bytes(data, "log/0.json")
        assert Record.from_bytes(record.to_bytes(), "log/0.json") == record


PARSERS: dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]] = {
    "genotypes": (genotypes, (TEXT.encode(), JSON.encode())),
    "overrides": (overrides, (b"search.epochs=3", b"data.mean=[0.5]", b"operation.workers='1:2'", b"space={kind='x'}")),
    "seeds": (seeds, (b"3", b"0,1,5", b"7,")),
    "stores": (stores, (b"s3://bucket/prefix", b"file:///tmp/x", b"results", b"~/x")),
    "job_files": (job_files, (JOB.encode(),)),
    "records": (records, (RECORD,)),
}
"""{parser: what to call with any bytes, inputs that it takes or nearly takes}."""
