"""Comparing results: who won, by how much, how sure that is, and what is refused or warned of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import JsonValue

from ray_darts.artifacts.open import open_store
from ray_darts.errors import ConfigError
from ray_darts.report.bootstrap import difference_interval
from ray_darts.report.comparison import compare, relative_improvement
from ray_darts.report.comparison_text import comparison_text
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.trainings import DIGESTS, PROTOCOL, register_trainings, train
from tests.cli.running import ray_darts
from tests.report.compared import good_and_poor, labels


@pytest.fixture
def store() -> MemoryStore:
    return good_and_poor()


def test_the_better_mean_wins_and_the_interval_is_of_the_difference(store: MemoryStore) -> None:
    comparison = compare(["poor", "good"], store)
    best, other = comparison.ranked
    assert labels(comparison) == ["good", "poor"]
    assert other.behind == pytest.approx(0.06)
    assert other.interval is not None
    assert 0.04 < other.interval.lower < 0.06 < other.interval.upper < 0.08
    assert not other.interval.means_little
    assert best.behind is None
    assert comparison.warnings == ()
    assert "good won against poor by 0.06: 95% bootstrap interval of the difference" in comparison_text(comparison)


def test_the_interval_is_that_of_an_independent_bootstrap() -> None:
    import numpy as np

    first, second = [0.95, 0.96, 0.97, 0.99, 0.91], [0.90, 0.91, 0.89, 0.94]
    draw = np.random.default_rng(0)
    means = [draw.choice(np.array(side), (200_000, len(side))).mean(1) for side in (first, second)]
    wanted = np.quantile(means[0] - means[1], [0.025, 0.975])
    found = difference_interval(first, second)
    assert found is not None
    assert (found.lower, found.upper) == pytest.approx(wanted, abs=0.0015)
    assert found == difference_interval(first, second), "seeded"
    assert found != difference_interval(first, second, seed=1)


@pytest.mark.parametrize(("values", "words"), [([0.5], "there is no interval"), ([0.5, 0.52], "it means little")])
def test_few_seeds_are_said_to_be_few(store: MemoryStore, values: list[float], words: str) -> None:
    register_trainings(store, "few")
    train(store, "few", "f", 1, values)
    comparison = compare(["good", "few"], store)
    assert words in comparison_text(comparison)
    assert any(f"the number of seeds differs: 3 in good, {len(values)} in few" in line for line in comparison.warnings)


def test_an_interval_that_holds_zero_is_no_win(store: MemoryStore) -> None:
    register_trainings(store, "like")
    train(store, "like", "l", 1, [0.94, 0.98, 0.955])
    text = comparison_text(compare(["good", "like"], store))
    assert "good is ahead of like by" in text
    assert "holds 0: this may be chance" in text


def test_where_lower_is_better_the_lower_mean_wins() -> None:
    store = MemoryStore()
    for name, value in (("a", 60.0), ("b", 58.0)):
        register_trainings(store, name)
        train(store, name, name, 1, [value, value + 1, value + 2], metric="test_perplexity", direction="min")
    comparison = compare(["a", "b"], store)
    assert labels(comparison) == ["b", "a"]
    interval = comparison.ranked[1].interval
    assert interval is not None
    assert interval.lower > 0


def test_more_than_two_are_a_table_against_the_best(store: MemoryStore) -> None:
    register_trainings(store, "middle")
    train(store, "middle", "m", 1, [0.93, 0.92, 0.94])
    text = comparison_text(compare(["poor", "middle", "good"], store)).splitlines()
    assert "behind the best" in text[1]
    assert [line.split()[0] for line in text[2:5]] == ["good", "middle", "poor"]
    assert text[2].endswith("best")
    assert "0.03, [" in text[3]


def test_every_reason_against_a_comparison_is_named(store: MemoryStore) -> None:
    register_trainings(store, "other", digests={"data": "0" * 64, "split": "1" * 64})
    train(store, "other", "o", 1, [0.5], test_digest="9" * 64, metric="validation_accuracy")
    with pytest.raises(ConfigError) as raised:
        compare(["good", "other"], store)
    for words in ("the data digests differ", "the split digests", "the test digests", "the metrics differ"):
        assert words in str(raised.value)


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_one_digest_that_differs_is_enough(store: MemoryStore, name: str) -> None:
    register_trainings(store, "other", digests={**DIGESTS, name: "0" * 64})
    train(store, "other", "o", 1, [0.5])
    with pytest.raises(ConfigError, match=f"the {name} digests differ"):
        compare(["good", "other"], store)


def test_another_test_set_alone_is_refused(store: MemoryStore) -> None:
    register_trainings(store, "other")
    train(store, "other", "o", 1, [0.5], test_digest="9" * 64)
    with pytest.raises(ConfigError, match="the test digests differ"):
        compare(["good", "other"], store)


def test_each_field_of_the_protocol_that_differs_is_a_warning(store: MemoryStore) -> None:
    changed: dict[str, JsonValue] = {
        **PROTOCOL,
        "weights": {"learning_rate": 0.1, "nesterov": True},
        "training": {"epochs": 600, "batch_size": 64},
        "data": {"kind": "images", "flip": False},
    }
    register_trainings(store, "long", protocol=changed)
    train(store, "long", "l", 1, [0.98, 0.99, 0.97], parameters=1101)
    assert compare(["good", "long"], store).warnings == (
        "protocol: data.flip is True in good, False in long",
        "budget: training.epochs is 20 in good, 600 in long",
        "protocol: weights.learning_rate is 0.05 in good, 0.1 in long",
        "protocol: weights.nesterov is absent in good, True in long",
        "budget: the numbers of parameters differ by more than 10%: 1,000 in good, 1,101 in long",
    )


def test_parameters_within_ten_percent_are_one_budget(store: MemoryStore) -> None:
    register_trainings(store, "near")
    train(store, "near", "n", 1, [0.98, 0.99, 0.97], parameters=1099)
    assert compare(["good", "near"], store).warnings == ()


def test_seeds_without_a_value_are_named(store: MemoryStore) -> None:
    register_trainings(store, "holes")
    train(store, "holes", "h", 1, [0.5, None, 0.6, 0.7])
    (warning,) = compare(["good", "holes"], store).warnings
    assert warning.endswith("not trained: h-seed-1")


def test_of_several_cells_the_named_one_or_the_best_which_is_said(store: MemoryStore) -> None:
    train(store, "good", "bbbb", 2, [0.5, 0.51, 0.52])
    best = compare(["good", "poor"], store).ranked[0].side
    assert best.values == (0.95, 0.96, 0.97)
    assert "cell gggg, the best of 2" in best.note
    comparison = compare(["good:bb", "poor"], store)
    assert labels(comparison) == ["poor", "good:bb"]
    with pytest.raises(ConfigError, match="no cell of that name; there are bbbb, gggg"):
        compare(["good:x", "poor"], store)


def test_an_item_of_another_store_is_opened(store: MemoryStore, tmp_path: Path) -> None:
    other = open_store(str(tmp_path))
    register_trainings(other, "far")
    train(other, "far", "f", 1, [0.5, 0.6, 0.7])
    assert labels(compare(["good", f"{tmp_path}/far"], store)) == ["good", f"{tmp_path}/far"]
    comparison = compare(["good", "s3://bucket/prefix/poor:p"], store, opener={"s3://bucket/prefix": store}.__getitem__)
    assert labels(comparison) == ["good", "s3://bucket/prefix/poor:p"]


def test_the_named_random_average_is_over_all_its_cells(store: MemoryStore) -> None:
    register_trainings(store, "draws")
    for number, value in enumerate([0.5, 0.7], start=1):
        train(store, "draws", f"d{number}", number, [value, value])
    comparison = compare(["good", "poor"], store, random="draws")
    assert comparison.baseline is not None
    assert comparison.baseline.mean == pytest.approx(0.6)
    assert comparison.ranked[0].improvement == pytest.approx(100 * 0.36 / 0.6)


def test_the_random_average_of_another_protocol_is_a_warning(store: MemoryStore) -> None:
    register_trainings(store, "draws", protocol={**PROTOCOL, "training": {"epochs": 1, "batch_size": 64}})
    train(store, "draws", "d", 1, [0.5, 0.6, 0.7])
    warnings = compare(["good", "poor"], store, random="draws").warnings
    assert warnings == ("budget: training.epochs is 20 in good, 1 in draws",)


def test_a_random_average_on_other_data_is_refused(store: MemoryStore) -> None:
    register_trainings(store, "draws", digests={**DIGESTS, "data": "0" * 64})
    train(store, "draws", "d", 1, [0.5])
    with pytest.raises(ConfigError, match="the data digests differ"):
        compare(["good", "poor"], store, random="draws")


def test_the_protocol_of_every_item_is_compared(store: MemoryStore) -> None:
    register_trainings(store, "long", protocol={**PROTOCOL, "training": {"epochs": 600, "batch_size": 64}})
    train(store, "long", "l", 1, [0.5, 0.6, 0.7])
    warnings = compare(["good", "poor", "long"], store).warnings
    assert warnings == ("budget: training.epochs is 20 in good, 600 in long",)


def test_an_experiment_may_be_called_selection(store: MemoryStore) -> None:
    register_trainings(store, "selection")
    train(store, "selection", "c", 1, [0.5, 0.6, 0.7])
    assert labels(compare(["good", "selection"], store)) == ["good", "selection"]


def test_the_relative_improvement_is_that_of_the_paper() -> None:
    assert relative_improvement(97.0, 96.5, "max") == pytest.approx(100 * 0.5 / 96.5)
    assert relative_improvement(58.0, 60.0, "min") == pytest.approx(100 * 2 / 60)
    assert relative_improvement(58.0, 0.0, "max") is None


def test_one_item_and_no_experiment_are_refused(store: MemoryStore) -> None:
    with pytest.raises(ConfigError, match="at least two items"):
        compare(["good"], store)
    with pytest.raises(ConfigError, match="nothing"):
        compare(["good", "nothing"], store)


def test_the_command_prints_the_verdict_on_stdout_and_warnings_on_stderr(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for name, values, digests in (("a", [0.9, 0.8], DIGESTS), ("b", [0.7], DIGESTS), ("c", [0.7], {"data": "0" * 64})):
        register_trainings(store, name, digests=digests)
        train(store, name, name, 1, values)
    ran = ray_darts("compare", "a", "b", "--store", str(tmp_path))
    assert ran.code == 0
    assert "a is ahead of b by 0.15: one value on a side" in ran.stdout
    assert ran.stderr == "warning: budget: the number of seeds differs: 2 in a, 1 in b\n"
    plain = json.loads(ray_darts("compare", "a", "b", "--store", str(tmp_path), "--json").stdout)
    assert [item["item"] for item in plain["items"]] == ["a", "b"]
    refused = ray_darts("compare", "a", "c", "--store", str(tmp_path))
    assert (refused.code, refused.stdout) == (2, "")
    assert "the data digests differ" in refused.stderr
