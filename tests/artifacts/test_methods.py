"""Runs of a method of one's own: probabilities by its decode rule, and what is read where it is not installed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from ray_darts.artifacts.answer import SEARCH_DOCUMENTS, SearchAnswer
from ray_darts.artifacts.architecture import architecture_of, group_facts
from ray_darts.artifacts.experiment import read_run, register_experiment, register_run
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.trace_schema import METHOD_TRACE_SCHEMA, operation_names, parameter_kinds, row_names
from ray_darts.artifacts.traces import read_rows
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.genotype.decode import softmax
from ray_darts.genotype.layout import num_parameters
from ray_darts.protocols import registry
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import DIGEST, EXPERIMENT, checkpoint_after, claimed
from tests.toys import NoisyEdges, ToySpace

RUN = "noisy-edges-second-order-seed-3"
KEYS = RunKeys(EXPERIMENT, RUN)
METHOD = NoisyEdges(noise=0.2)
LAYOUT = ToySpace().layout()
CELL = LAYOUT.cells[0]
GROUPS = METHOD.groups(LAYOUT)
WIDTH = num_parameters(GROUPS)
STEPS = 4

Forget = Callable[[], None]


def parameters_after(step: int) -> NDArray[np.float32]:
    """All alphas, then all betas, float32 [WIDTH]; betas differ so much that they decide."""
    chance = np.random.default_rng(step)
    betas = WIDTH - LAYOUT.num_alphas
    return np.concatenate([chance.standard_normal(LAYOUT.num_alphas), 3 * chance.standard_normal(betas)]).astype(
        np.float32
    )


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method is known in each test, whatever other tests did to the registry."""
    monkeypatch.setitem(registry._registered["method"], METHOD.kind, registry._Registered(NoisyEdges, "tests.toys"))


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Forget:
    """Make the method unknown, as where its package is not installed."""
    return lambda: monkeypatch.delitem(registry._registered["method"], METHOD.kind)


@pytest.fixture
def store() -> MemoryStore:
    """A finished, published run of the method."""
    store = MemoryStore()
    register_experiment(
        store,
        EXPERIMENT,
        identity={"method": METHOD.model_dump(mode="json")},
        config_digest=DIGEST,
        layout=LAYOUT,
        data_digests={},
        code="test",
    )
    settings = METHOD.model_dump(mode="json")
    register_run(store, EXPERIMENT, RUN, 3, "second", method=settings, groups=group_facts(GROUPS, LAYOUT))
    writer = claimed(store, run=RUN)
    for first, last in pairwise((0, 3, STEPS)):
        rows = np.array([parameters_after(step) for step in range(first + 1, last + 1)], np.float32)
        epochs = np.zeros(len(rows), np.int32)
        writer.advance(last, {"alphas": rows}, epochs, [], checkpoint_after(last), total_steps=STEPS)
    genotype = METHOD.decode(LAYOUT, parameters_after(STEPS).tolist()).genotype
    metric = {"name": "supernet_validation_accuracy", "value": 0.5, "direction": "max"}
    writer.finish(SearchAnswer.new(genotype, STEPS, metric).to_data(), SEARCH_DOCUMENTS)
    publish_run(store, EXPERIMENT, RUN)
    return store


def test_published_probabilities_are_those_of_the_methods_decode_rule(store: MemoryStore) -> None:
    table = pq.read_table(pa.BufferReader(store.objects[KEYS.alpha_trace]))
    assert table.schema.equals(METHOD_TRACE_SCHEMA)
    rows = table.to_pylist()
    assert len(rows) == STEPS * WIDTH
    seen = {(row["step"], row["parameter"], row["edge"], row["operation"]): row for row in rows}
    assert len(seen) == len(rows)
    for step in range(1, STEPS + 1):
        parameters = LAYOUT.rows(GROUPS, parameters_after(step).tolist())
        (betas,) = parameters[f"betas.{CELL.name}"]
        for edge, (source, target) in enumerate(CELL.edges):
            strength = 1 / (1 + np.exp(-betas[edge]))
            for operation, alpha, weight in zip(
                CELL.operations, parameters[CELL.name][edge], softmax(parameters[CELL.name][edge]), strict=True
            ):
                row = seen[step, "alphas", edge, operation]
                assert row["alpha"] == np.float32(alpha)
                assert row["probability"] == pytest.approx(weight * strength, rel=1e-6)
                assert (row["cell"], row["source"], row["target"]) == (CELL.name, source, target)
                assert (row["run"], row["method"]) == (RUN, METHOD.kind)
            row = seen[step, "betas", edge, None]
            assert row["alpha"] == np.float32(betas[edge])
            assert row["probability"] is None
            assert (row["source"], row["target"]) == (source, target)


def test_verify_accepts_a_run_of_an_installed_method(store: MemoryStore) -> None:
    assert verify_experiment(store, EXPERIMENT).problems == []


def test_verify_reports_a_run_whose_method_is_not_installed_and_reads_it_all_the_same(
    store: MemoryStore, forget: Forget
) -> None:
    before = dict(store.objects)
    forget()
    report = verify_experiment(store, EXPERIMENT, repair=True)
    assert not report.clean
    [problem] = report.problems
    assert (problem.run, problem.repaired) == (RUN, False)
    assert "the method 'noisy-edges', which cannot be used here" in problem.detail
    assert "install its package, or name its module (--plugin)" in problem.detail
    assert [(run.run, run.state, run.step) for run in report.runs] == [(RUN, "finished", STEPS)]
    assert report.runs[0].num_bytes > 0
    assert store.objects.pop(ExperimentKeys(EXPERIMENT).status), "what a repair writes for status is no part of a run"
    assert store.objects == before


def test_damage_to_rows_is_found_where_the_method_is_not_installed(store: MemoryStore, forget: Forget) -> None:
    part = read_log(store, KEYS)[1].record.streams["alphas"][0].key
    store.objects[part] = store.objects[part][:-1] + b"?"
    forget()
    assert [problem.key for problem in verify_experiment(store, EXPERIMENT).problems] == [part]


def test_a_best_of_a_method_that_is_not_installed_is_no_damage(store: MemoryStore, forget: Forget) -> None:
    forget()
    key = ExperimentKeys(EXPERIMENT).best
    assert key not in [problem.key for problem in verify_experiment(store, EXPERIMENT).problems]


def test_rows_are_read_and_named_where_the_method_is_not_installed(store: MemoryStore, forget: Forget) -> None:
    forget()
    architecture = architecture_of(LAYOUT, read_run(store, EXPERIMENT, RUN))
    parts = list(read_rows(store, KEYS, read_log(store, KEYS), architecture.width))
    values = np.concatenate([part.values for part in parts])
    np.testing.assert_array_equal(values, [parameters_after(step) for step in range(1, STEPS + 1)])
    names = row_names(architecture)
    kinds, operations = parameter_kinds(architecture), operation_names(LAYOUT)
    assert [
        (kinds[kind], int(edge), operations[operation] if operation >= 0 else None)
        for kind, edge, operation in zip(names["parameter"], names["edge"], names["operation"], strict=True)
    ] == [
        *(("alphas", edge, operation) for edge in range(len(CELL.edges)) for operation in CELL.operations),
        *(("betas", edge, None) for edge in range(len(CELL.edges))),
    ]
