"""The page of runs that keep some steps alone, and of runs that were compacted, also while the page is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ray_darts.artifacts.architecture import architecture_of
from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.experiment import read_run
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.superseded import Keeping
from ray_darts.errors import MissingObject
from ray_darts.report.page.alphas import ProbabilityReader
from tests.artifacts.memory_store import MemoryStore
from tests.report.page.experiments import EXPERIMENT, LAYOUT, register, run_names, whole_run
from tests.report.page.pages import made, payload

KEPT = [4, 6, 8, 12, 16, 18, 20, 24, 28, 30]
"""Of 30 steps each fourth one, and the last of each of five epochs."""


def sparse(store: ObjectStore, *, publish: bool = True) -> None:
    register(store, run_names(1))
    whole_run(store, run_names(1)[0], 0, publish=publish, keeping=Keeping(trace_every_steps=4))


def page(folder: Path) -> Mapping[str, object]:
    run: Mapping[str, object] = payload(made(folder))["runs"][0]
    return run


@pytest.mark.parametrize("publish", [True, False])
def test_the_page_draws_the_kept_steps_and_every_cell_has_its_probabilities(
    written: Path, tmp_path: Path, publish: bool
) -> None:
    sparse(open_store(str(tmp_path / "sparse")), publish=publish)
    whole, found = payload(made(written))["runs"][0], payload(made(tmp_path / "sparse"))["runs"][0]
    assert found["problems"] == []
    assert (found["alphas"]["steps"], found["alphas"]["of"], found["alphas"]["kept"]) == (KEPT, 30, len(KEPT))
    assert (whole["alphas"]["of"], whole["alphas"]["kept"]) == (30, 30)
    for edge, other in zip(found["alphas"]["cells"][0]["edges"], whole["alphas"]["cells"][0]["edges"], strict=True):
        assert edge["values"] == [[row[step - 1] for step in KEPT] for row in other["values"]]
    assert found["slider"]["weights"] == whole["slider"]["weights"]
    assert None not in found["slider"]["weights"]


def test_the_page_of_a_compacted_run_is_the_same(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "compacted"))
    register(store, run_names(1))
    whole_run(store, run_names(1)[0], 0)
    before = page(tmp_path / "compacted")
    collect_experiment(store, EXPERIMENT, 0.0, delete=True, compact=True, keep_finished_checkpoints=0)
    assert page(tmp_path / "compacted") == before


def test_a_page_under_way_reads_the_trace_where_its_run_is_compacted() -> None:
    store, name = MemoryStore(), run_names(1)[0]
    sparse(store, publish=False)
    keys = RunKeys(EXPERIMENT, name)
    architecture = architecture_of(LAYOUT, read_run(store, EXPERIMENT, name))
    log = [entry.record for entry in read_log(store, keys)]
    before = ProbabilityReader(store).read(keys, log[:-1], architecture)
    assert before.steps.tolist() == KEPT
    publish_run(store, EXPERIMENT, name)
    collect_experiment(store, EXPERIMENT, 0.0, delete=True, compact=True)
    for known in (log[:-1], log[:3]):
        now = ProbabilityReader(store).read(keys, known, architecture)
        np.testing.assert_array_equal(now.values, before.values[: len(now.steps)])
    del store.objects[keys.alpha_trace]
    with pytest.raises(MissingObject):
        ProbabilityReader(store).read(keys, [entry.record for entry in read_log(store, keys)], architecture)
