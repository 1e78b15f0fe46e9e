"""Comparing searches: by their selections, method by method, with the average over random cells as the baseline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_darts.artifacts.keys import selection_of
from ray_darts.errors import ConfigError
from ray_darts.report.comparison import compare
from ray_darts.report.comparison_text import comparison_text
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import genotype_after
from tests.artifacts.trainings import register_search, register_trainings, search, train
from tests.report.compared import good_and_poor, labels

SAMPLER = {"kind": "sampler"}


@pytest.fixture
def store() -> MemoryStore:
    return good_and_poor()


def searched(store: MemoryStore) -> None:
    """A search: two runs of a gradient method, three draws; cells 1 to 5 trained in its selection with one seed."""
    register_search(store, "s")
    for seed in range(2):
        search(store, "s", f"first-order-seed-{seed}", seed, seed + 1)
    for seed in range(3):
        search(store, "s", f"random-seed-{seed}", seed, seed + 3, order=None, method=SAMPLER)
    register_trainings(store, selection_of("s"))
    for number, value in enumerate([0.8, 0.9, 0.6, 0.7, 0.5], start=1):
        options = {"metric": "validation_accuracy", "ranking": "selected", "test_digest": None}
        train(store, selection_of("s"), f"c{number}", number, [value], **options)


def test_a_search_is_its_best_selected_cell(store: MemoryStore) -> None:
    searched(store)
    register_search(store, "s2")
    search(store, "s2", "first-order-seed-0", 0, 1)
    with pytest.raises(ConfigError, match="s2/selection"):
        compare(["s", "s2"], store)
    register_trainings(store, selection_of("s2"))
    options = {"metric": "validation_accuracy", "ranking": "selected", "test_digest": None}
    train(store, selection_of("s2"), "c", 1, [0.85], **options)
    comparison = compare(["s", "s2"], store)
    assert [(against.side.label, against.side.values) for against in comparison.ranked] == [
        ("s", (0.9,)),
        ("s2", (0.85,)),
    ]
    assert "cell c2, the best of 5" in comparison.ranked[0].side.note
    with pytest.raises(ConfigError, match="the metrics differ"):
        compare(["s", "good"], store)


def test_methods_are_compared_by_all_their_cells_and_a_sampler_by_mean_and_best(store: MemoryStore) -> None:
    searched(store)
    comparison = compare(["s"], store, by_method=True)
    sides = {against.side.label: against for against in comparison.ranked}
    values = {label: sorted(against.side.values) for label, against in sides.items()}
    assert values == {
        "s first order, mean of 2 runs": [0.8, 0.9],
        "s random, mean of 3 draws": [0.5, 0.6, 0.7],
        "s random, best of 3 draws": [0.7],
    }
    assert comparison.baseline is not None
    assert comparison.baseline.mean == pytest.approx(0.6)
    improvements = [against.improvement for against in comparison.ranked]
    assert improvements == pytest.approx([100 * 0.25 / 0.6, 100 * 0.1 / 0.6, 0.0])
    assert "RI: 100 *" in comparison_text(comparison)


def test_a_search_whose_draws_were_not_trained_has_no_random_average(store: MemoryStore) -> None:
    register_search(store, "s")
    search(store, "s", "first-order-seed-0", 0, 1)
    search(store, "s", "random-seed-0", 0, 3, order=None, method=SAMPLER)
    register_trainings(store, selection_of("s"))
    for name, number in (("c1", 1), ("c2", 2)):
        options = {"metric": "validation_accuracy", "ranking": "selected", "test_digest": None}
        train(store, selection_of("s"), name, number, [0.8], **options)
    comparison = compare(["s", "s/selection:c2"], store)
    assert comparison.baseline is None


def test_equal_cells_of_several_runs_count_once_each_although_their_texts_differ(store: MemoryStore) -> None:
    """They are trained once: the one that is trained stands for the other."""
    searched(store)
    drawn = genotype_after(3)
    cells = tuple(replace(cell, nodes=tuple(node[::-1] for node in cell.nodes)) for cell in drawn.cells)
    same = replace(drawn, cells=cells)
    assert same != drawn
    search(store, "s", "random-seed-3", 3, 0, order=None, method=SAMPLER, genotype=same)
    comparison = compare(["s"], store, by_method=True)
    (sampling,) = [each.side for each in comparison.ranked if "mean of 4 draws" in each.side.label]
    assert sorted(sampling.values) == [0.5, 0.6, 0.6, 0.7]
    assert sampling.lost == ()
    assert comparison.baseline is not None
    assert comparison.baseline.mean == pytest.approx(0.6)


def test_a_selection_can_be_named_itself(store: MemoryStore) -> None:
    searched(store)
    assert labels(compare(["s/selection:c2", "s/selection:c1"], store)) == ["s/selection:c2", "s/selection:c1"]
    opener = {"s3://bucket/prefix": store}.__getitem__
    assert labels(compare(["s3://bucket/prefix/s/selection", "s/selection:c1"], store, opener=opener)) == [
        "s3://bucket/prefix/s/selection",
        "s/selection:c1",
    ]
