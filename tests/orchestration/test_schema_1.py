"""A run that ray_darts 0.1 began, in records of schema 1, is continued and ends as an uninterrupted run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.run_log import read_log
from ray_darts.orchestration.assignment import RunOutcome
from ray_darts.protocols.method import ORDERS, Order
from tests.orchestration.tiny import EXPERIMENT, assigned, is_clean, published, search_here, trace_digest
from tests.search.searches import eight_operations

FIXTURE = Path(__file__).parents[1] / "data" / "schema_1"
UNFINISHED = "first-order-seed-1"
CONFIG = eight_operations()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A copy of the fixture that a test may change."""
    shutil.copytree(FIXTURE / EXPERIMENT, tmp_path / "store" / EXPERIMENT)
    return LocalStore(tmp_path / "store")


def test_an_unfinished_run_of_schema_1_continues_and_has_the_trace_of_an_uninterrupted_one(
    store: LocalStore, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in Path(store.uri).glob("*/runs/*/log/*.json")}
    assert search_here(assigned(store, CONFIG, seed=1), store) == RunOutcome("finished", step=9)
    twin = LocalStore(tmp_path / "twin")
    search_here(assigned(twin, CONFIG, seed=1), twin)
    continued, whole = published(store, UNFINISHED), published(twin, UNFINISHED)
    rows, wanted = continued.pop("metrics"), whole.pop("metrics")
    assert continued == whole
    # The checkpoint's weights are of the CPU that wrote the fixture: on another type the last bits of float64 differ.
    assert _flat(rows) == _nearly(_flat(wanted))
    assert trace_digest(store, UNFINISHED) == json.loads((FIXTURE / "digests.json").read_text())[UNFINISHED]
    assert {path: path.read_bytes() for path in before} == before
    log = [entry.record for entry in read_log(store, RunKeys(EXPERIMENT, UNFINISHED))]
    raw = [json.loads(store.get(RunKeys(EXPERIMENT, UNFINISHED).record(n)).data) for n in range(len(log))]
    assert [(plain["schema_version"], record.kind) for plain, record in zip(raw, log, strict=True)] == [
        (1, "claim"),
        (1, "advance"),
        (1, "advance"),
        (1, "advance"),
        (2, "claim"),
        (2, "advance"),
        (2, "advance"),
        (2, "finish"),
    ]
    assert is_clean(store)


@pytest.mark.parametrize("order", ORDERS)
def test_a_search_of_today_has_the_digest_of_the_one_of_schema_1(order: Order, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    search_here(assigned(store, CONFIG, order), store)
    run = f"{order}-order-seed-0"
    assert trace_digest(store, run) == json.loads((FIXTURE / "digests.json").read_text())[run]
    description = FIXTURE / RunKeys(EXPERIMENT, run).description
    assert store.get(RunKeys(EXPERIMENT, run).description).data == description.read_bytes()
    genotype = FIXTURE / RunKeys(EXPERIMENT, run).genotype
    assert store.get(RunKeys(EXPERIMENT, run).genotype).data == genotype.read_bytes()


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    """{path: value} of the leaves of JSON-able data."""
    if isinstance(value, dict):
        return {key: leaf for name, inner in value.items() for key, leaf in _flat(inner, f"{prefix}.{name}").items()}
    if isinstance(value, list):
        return _flat(dict(enumerate(value)), prefix)
    return {prefix: value}


def _nearly(leaves: dict[str, object]) -> dict[str, object]:
    """Numbers are compared to 12 digits."""
    return {name: pytest.approx(leaf, rel=1e-12) if isinstance(leaf, float) else leaf for name, leaf in leaves.items()}
