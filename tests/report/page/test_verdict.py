"""What a page says first: of a search with a selection and a random baseline, and of one that is under way."""

from __future__ import annotations

from ray_darts.report.page.facts import FactsReader
from ray_darts.report.page.verdict import rows_of, verdict_of
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.trainings import register_search, search
from tests.report.page.experiments import EXPERIMENT, mixed_experiment
from tests.report.test_compared_searches import searched


def test_runs_whose_cells_were_trained_are_ranked_by_that_beside_random_sampling() -> None:
    store = MemoryStore()
    searched(store)
    facts = FactsReader(store, "s").read()
    assert [problem.partition(":")[0] for problem in facts.problems] == ["s/best.json"]
    assert [(row.rank, row.run, row.score, row.parameters) for row in rows_of(facts, {})] == [
        (1, "first-order-seed-1", 0.9, 1000),
        (2, "first-order-seed-0", 0.8, 1000),
        (3, "random-seed-1", 0.7, 1000),
        (4, "random-seed-0", 0.6, 1000),
        (5, "random-seed-2", 0.5, 1000),
    ]
    lines = verdict_of(facts).lines
    assert "Random sampling: validation_accuracy 0.6, the mean of 3 draws; the best searched cell 0.9 (+50 %)" in lines
    assert [line.partition(":")[0] for line in verdict_of(facts).warnings] == ["Seeds of first order disagree"]


def test_seeds_that_agree_are_no_warning() -> None:
    store = MemoryStore()
    register_search(store, "s")
    for seed in range(2):
        search(store, "s", f"first-order-seed-{seed}", seed, 1)
    assert verdict_of(FactsReader(store, "s").read()).warnings == ()


def test_a_mixed_experiment_names_what_is_to_be_looked_at() -> None:
    store = MemoryStore()
    mixed_experiment(store)
    facts = FactsReader(store, EXPERIMENT).read()
    verdict = verdict_of(facts)
    assert verdict.states == "1 failed, 4 finished, 1 searching"
    assert dict(verdict.best)["best run"] == "second-order-seed-3"
    assert verdict.ranking.startswith("Ranked by the supernet's own validation")
    assert any(line.startswith("second-order-seed-5 failed: non_finite: ") for line in verdict.warnings)
    rows = rows_of(facts, {})
    assert [row.rank for row in rows] == [1, 2, 3, 4, None, None]
    assert [row.metric for row in rows] == [0.503, 0.502, 0.501, 0.5, None, None]
    assert rows[4].progress == "200 of 500"
