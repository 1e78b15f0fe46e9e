"""open_experiment: status, runs, best, traces and metrics of a store."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_darts import api, errors
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.experiment import Experiment
from tests.artifacts.runs import EXPERIMENT, LAYOUT, advance, claimed, genotype_after, register, whole_run

GOOD, POOR, HALF = (f"second-order-seed-{seed}" for seed in range(3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two finished runs and one under way."""
    folder = tmp_path_factory.mktemp("store")
    store = open_store(str(folder))
    register(store, *((run, seed) for seed, run in enumerate((GOOD, POOR, HALF))))
    for run, value in ((GOOD, 0.9), (POOR, 0.4)):
        whole_run(store, run, value=value)
        publish_run(store, EXPERIMENT, run)
    advance(claimed(store, run=HALF), 4)
    return folder


def test_status_and_runs_have_every_run(folder: Path) -> None:
    experiment = api.open_experiment(folder, EXPERIMENT)
    assert {run.run: run.state for run in experiment.status()} == {
        GOOD: "finished",
        POOR: "finished",
        HALF: "searching",
    }
    assert [(run.run, run.seed, run.order) for run in experiment.runs()] == [
        (GOOD, 0, "second"),
        (POOR, 1, "second"),
        (HALF, 2, "second"),
    ]


def test_best_is_the_best_and_can_be_verified(folder: Path) -> None:
    best = api.open_experiment(str(folder), EXPERIMENT).best(verify=True)
    assert best.run == GOOD
    assert best.architecture() == api.read_genotype(best) == genotype_after(9)


def test_traces_are_a_dataset_over_the_published_files(folder: Path) -> None:
    traces = api.open_experiment(folder, EXPERIMENT).traces()
    assert traces.count_rows() == 2 * 9 * LAYOUT.num_alphas
    table = traces.to_table()
    files = [pq.read_table(folder / EXPERIMENT / "runs" / run / "alpha_trace.parquet") for run in (GOOD, POOR)]
    assert table.to_pylist() == [row for file in files for row in file.to_pylist()]


def test_metrics_are_one_table(folder: Path) -> None:
    metrics = api.open_experiment(folder, EXPERIMENT).metrics()
    assert metrics["epoch"].to_pylist() == [0, 1, 2] * 2
    assert metrics["run"].to_pylist() == [GOOD] * 3 + [POOR] * 3


def test_without_a_finished_run_tables_are_empty(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    register(store)
    experiment = Experiment(store, EXPERIMENT)
    assert experiment.traces().count_rows() == experiment.metrics().num_rows == 0
    assert "probability" in experiment.traces().schema.names
    whole_run(store)
    publish_run(store, EXPERIMENT, experiment.runs()[0].run)
    assert experiment.traces().count_rows() == 9 * LAYOUT.num_alphas


def test_an_unknown_experiment_names_those_that_there_are(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.MissingObject, match=f"no experiment 'other' in .*; there are {EXPERIMENT}"):
        api.open_experiment(folder, "other")
    with pytest.raises(errors.MissingObject, match="it holds none"):
        api.open_experiment(tmp_path, "other")


def test_store_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"store\.attempts = 0"):
        api.open_experiment(tmp_path, "x", settings={"attempts": 0})
    with pytest.raises(errors.ConfigError, match=r"experiment '\.\./x'"):
        api.open_experiment(tmp_path, "../x")
