"""How much the runs of a search agree, and how decided their alphas were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_darts.artifacts.histories import read_histories
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.report.stability import agreement_of, stability_of, stability_text
from ray_darts.tasks.metrics import CellMetrics, EpochMetrics
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.trainings import register_search, search
from tests.cli.running import ray_darts


def chain(*operations: str) -> Genotype:
    """One cell whose node i applies an operation to the state before it."""
    nodes = tuple((Connection(operation, index),) for index, operation in enumerate(operations))
    return Genotype("toy", (CellGenotype("cell", 1, nodes, (len(nodes),)),))


def epoch(
    margins: tuple[float | None, ...], warning: str | None = None, quality: dict[str, float] | None = None
) -> EpochMetrics:
    cell = CellMetrics(entropy=1.0, skips=0, parameter_free=0, margins=margins)
    return EpochMetrics(
        epoch=0, step=1, train_loss=1.0, validation_loss=1.0, cells={"c": cell}, warning=warning, quality=quality or {}
    )


def test_agreement_is_the_share_of_equal_kept_edges() -> None:
    found = agreement_of([chain("a", "b", "c", "d"), chain("a", "b", "c", "x"), chain("a", "b", "y", "x")])
    assert (found.runs, found.distinct) == (3, 3)
    assert found.mean == pytest.approx((0.75 + 0.5 + 0.75) / 3)
    assert found.least == pytest.approx(0.5)
    assert agreement_of([chain("a"), chain("a")]).distinct == 1


def test_an_edge_is_equal_only_with_its_cell_target_source_and_operation() -> None:
    connections = Connection("a", 0), Connection("a", 1)
    one = Genotype("toy", (CellGenotype("cell", 2, ((connections[0],),), (2,)),))
    other_source = Genotype("toy", (CellGenotype("cell", 2, ((connections[1],),), (2,)),))
    other_cell = Genotype("toy", (CellGenotype("other", 2, ((connections[0],),), (2,)),))
    for other in (other_source, other_cell):
        assert agreement_of([one, other]).mean == 0.0


def test_one_run_has_no_agreement() -> None:
    found = agreement_of([chain("a")])
    assert (found.runs, found.mean, found.least) == (1, None, None)


@pytest.fixture
def store() -> MemoryStore:
    """Two runs of the first order with one cell, one of the second with another, one unfinished."""
    store = MemoryStore()
    register_search(store, "s")
    quality = {"validation_mixed_accuracy": 0.9, "validation_discrete_accuracy": 0.6}
    search(store, "s", "first-order-seed-0", 0, 1, epochs=[epoch((0.1, None, 0.3), quality=quality)], value=0.5)
    search(store, "s", "first-order-seed-1", 1, 1, epochs=[epoch((0.5,), "3 of 8 kept edges are skips")], value=0.7)
    search(store, "s", "second-order-seed-0", 0, 2, order="second")
    return store


def test_stability_is_read_from_the_logs_of_finished_runs(store: MemoryStore) -> None:
    found = stability_of(read_histories(store, "s"))
    assert (found.overall.runs, found.overall.distinct) == (3, 2)
    assert list(found.groups) == ["first order", "second order"]
    assert found.groups["first order"].mean == 1.0
    assert list(found.spreads) == ["first order"]
    assert found.spreads["first order"].mean == pytest.approx(0.6)
    (gap,) = found.gaps
    assert (gap.run, gap.metric) == ("first-order-seed-0", "validation_accuracy")
    assert gap.change == pytest.approx(-0.3)
    assert found.margins[0].least == 0.1
    assert found.margins[0].mean == pytest.approx(0.2)
    (warning,) = found.warnings
    assert (warning.run, warning.epoch, warning.warning) == ("first-order-seed-1", 0, "3 of 8 kept edges are skips")
    text = stability_text(found)
    assert "3 runs found 2 different cells" in text
    assert "first-order-seed-0: validation_accuracy 0.9 of the supernet, 0.6 discretised (-0.3)" in text


def test_without_a_finished_run_nothing_is_known() -> None:
    store = MemoryStore()
    register_search(store, "s")
    assert "nothing is known" in stability_text(stability_of(read_histories(store, "s")))


def test_best_shows_stability_when_it_is_asked_for(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    register_search(store, "s")
    search(store, "s", "first-order-seed-0", 0, 1)
    search(store, "s", "first-order-seed-1", 1, 1)
    publish_run(store, "s", "first-order-seed-0")
    words = ("best", "s", "--store", str(tmp_path))
    assert "agree" not in ray_darts(*words).stderr
    assert "stability" not in json.loads(ray_darts(*words, "--json").stdout)
    ran = ray_darts(*words, "--stability", "--json")
    assert "2 runs found one cell; 100% of kept edges are equal" in ran.stderr
    assert json.loads(ran.stdout)["stability"]["agreement"]["distinct"] == 1


def test_an_unfinished_run_does_not_count(store: MemoryStore) -> None:
    from ray_darts.artifacts.experiment import register_run

    register_run(store, "s", "first-order-seed-9", 9, "first")
    assert stability_of(read_histories(store, "s")).overall.runs == 3
