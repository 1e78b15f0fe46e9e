"""result.json of an experiment of trainings: what it says, and that it is a function of the logs alone."""

from __future__ import annotations

import statistics

import pytest

from ray_darts.artifacts.experiment import register_run
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.objects import Stored
from ray_darts.artifacts.results import TrainingResults, genotype_name, publish_results, training_results
from ray_darts.artifacts.spread import Spread
from ray_darts.artifacts.trained import best_run
from ray_darts.errors import CorruptObject, StoreError
from ray_darts.report.results import results_text, spread_text
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import DIGEST, register, whole_run
from tests.artifacts.trainings import (
    PROTOCOL,
    TEST_DIGEST,
    claim_training,
    genotype_data,
    register_trainings,
    train,
    training_answer,
)

KEY = ExperimentKeys("t").result


@pytest.fixture
def store() -> MemoryStore:
    """Two cells: one with four good seeds, one failed and one unfinished; one with one seed."""
    store = MemoryStore()
    register_trainings(store, "t")
    train(store, "t", "aaaa", 1, [0.9, 0.8, 0.95, 0.7])
    claim_training(store, "t", "aaaa-seed-4", 4, 1).fail("non_finite", "the loss is not finite in step 3")
    claim_training(store, "t", "aaaa-seed-5", 5, 1)
    train(store, "t", "bbbb", 2, [0.92], parameters=2000)
    return store


def test_a_run_that_opened_no_test_set_is_not_the_best_of_those_that_did() -> None:
    """Values of two metrics are not compared: neither in result.json, nor to choose what is exported."""
    store = MemoryStore()
    register_trainings(store, "t")
    train(store, "t", "aaaa", 1, [0.85, 0.90])
    train(store, "t", "bbbb", 2, [0.97], metric="validation_accuracy", ranking="selected", test_digest=None)
    assert [result.name for result in training_results(store, "t").ranked()] == ["aaaa", "bbbb"]
    results = training_results(store, "t")
    assert results.metric is not None
    assert (results.metric.name, results.metric.ranking) == ("test_accuracy", "trained")
    assert {cell.name: cell.values for cell in results.genotypes} == {"aaaa": {0: 0.85, 1: 0.90}, "bbbb": {}}
    assert best_run(store, "t")[0] == "aaaa-seed-1"


def test_results_have_every_seed_and_the_spread_of_the_finished_ones(store: MemoryStore) -> None:
    results = training_results(store, "t")
    assert results.metric is not None
    assert (results.metric.name, results.metric.direction) == ("test_accuracy", "max")
    assert (results.config_digest, results.protocol, results.test_digests) == (DIGEST, PROTOCOL, (TEST_DIGEST,))
    first, second = results.genotypes
    assert (first.name, first.genotype, first.parameters) == ("aaaa", genotype_data(1), 1000)
    assert [run.state for run in first.runs] == ["finished"] * 4 + ["failed", "unfinished"]
    assert (first.finished, first.failed, first.unfinished) == (4, 1, 1)
    assert first.values == {0: 0.9, 1: 0.8, 2: 0.95, 3: 0.7}
    assert first.runs[0].validation == {"validation_accuracy": 0.5}, "of the weights that were scored: the last ones"
    assert first.runs[4].failure is not None
    assert first.runs[4].failure.kind == "non_finite"
    assert first.spread.mean == pytest.approx(0.8375)
    assert first.spread.deviation == pytest.approx(statistics.stdev([0.9, 0.8, 0.95, 0.7]))
    assert second.parameters == 2000
    assert second.spread.deviation is None
    assert [result.name for result in results.ranked()] == ["bbbb", "aaaa"]


def test_quartiles_are_interpolated_linearly_as_numpy_does() -> None:
    import numpy as np

    values = [3.0, 1.0, 7.5, 2.0, 2.5, 11.0]
    spread = Spread.of(values)
    found = (spread.lower_quartile, spread.median, spread.upper_quartile)
    assert found == pytest.approx(np.quantile(values, [0.25, 0.5, 0.75]))
    assert Spread.of([]).mean is None


def test_a_value_that_is_not_finite_is_finished_and_not_in_the_mean(store: MemoryStore) -> None:
    train(store, "t", "cccc", 3, [None, 0.5])
    result = training_results(store, "t").genotypes[-1]
    assert (result.finished, result.spread.count, result.spread.mean) == (2, 1, 0.5)


def test_lower_is_better_where_the_metric_says_so() -> None:
    store = MemoryStore()
    register_trainings(store, "t")
    train(store, "t", "a", 1, [60.0], metric="test_perplexity", direction="min")
    train(store, "t", "b", 2, [58.0], metric="test_perplexity", direction="min")
    assert [result.name for result in training_results(store, "t").ranked()] == ["b", "a"]


def test_publishing_twice_writes_once_and_the_bytes_are_a_function_of_the_logs(store: MemoryStore) -> None:
    published = publish_results(store, "t")
    data = store.objects[KEY]
    assert TrainingResults.from_bytes(data, KEY) == published
    store.log.clear()
    publish_results(store, "t")
    assert not [line for line in store.log if not line.startswith(("GET", "LIST"))]
    del store.objects[KEY]
    publish_results(store, "t")
    assert store.objects[KEY] == data


def test_a_new_seed_replaces_the_results(store: MemoryStore) -> None:
    publish_results(store, "t")
    train(store, "t", "cccc", 3, [0.99])
    publish_results(store, "t")
    assert TrainingResults.from_bytes(store.objects[KEY], KEY).ranked()[0].name == "cccc"


def test_results_that_another_writer_replaced_meanwhile_are_made_again(store: MemoryStore) -> None:
    publish_results(store, "t")
    train(store, "t", "cccc", 3, [0.99])
    store.schedule = ["overtaken"]

    def newer() -> None:
        train(store, "t", "dddd", 4, [0.999])
        publish_results(store, "t")

    store.overtake = newer
    publish_results(store, "t")
    names = [result.name for result in TrainingResults.from_bytes(store.objects[KEY], KEY).genotypes]
    assert names == ["aaaa", "bbbb", "cccc", "dddd"]


class Meddled(MemoryStore):
    """Another writer publishes a newer seed just before result.json is read for the first time."""

    meddle = False

    def get(self, key: str) -> Stored:
        if key == KEY and self.meddle:
            self.meddle = False
            train(self, "t", "dddd", 4, [0.999])
            publish_results(self, "t")
        return super().get(key)


def test_older_results_never_replace_newer_ones() -> None:
    store = Meddled()
    register_trainings(store, "t")
    train(store, "t", "aaaa", 1, [0.9])
    publish_results(store, "t")
    train(store, "t", "bbbb", 2, [0.8])
    store.meddle = True
    publish_results(store, "t")
    names = [result.name for result in TrainingResults.from_bytes(store.objects[KEY], KEY).genotypes]
    assert names == ["aaaa", "bbbb", "dddd"]


def test_a_store_that_refuses_every_swap_is_named(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_darts.artifacts.contention._LONGEST_PAUSE_S", 0.0)
    publish_results(store, "t")
    train(store, "t", "cccc", 3, [0.99])
    store.schedule = ["overtaken"] * 20
    store.overtake = lambda: store.put(KEY, store.objects[KEY])
    with pytest.raises(StoreError, match=r"conditional writes of t/result\.json failed"):
        publish_results(store, "t")


def test_runs_that_contradict_each_other_are_refused(store: MemoryStore) -> None:
    train(store, "t", "cccc", 3, [0.5], metric="validation_accuracy")
    with pytest.raises(CorruptObject, match="several metrics"):
        training_results(store, "t")


def test_an_answer_of_another_genotype_is_refused(store: MemoryStore) -> None:
    writer = claim_training(store, "t", "cccc-seed-0", 0, 3)
    writer.finish(training_answer(4, 0.5), ("result.json",))
    with pytest.raises(CorruptObject, match="another genotype"):
        training_results(store, "t")


def test_one_name_for_two_genotypes_is_refused(store: MemoryStore) -> None:
    register_run(store, "t", "aaaa-seed-9", 9, None, genotype=genotype_data(2))
    with pytest.raises(CorruptObject, match="different networks"):
        training_results(store, "t")


def test_searches_have_no_such_results() -> None:
    store = MemoryStore()
    register(store)
    whole_run(store)
    with pytest.raises(CorruptObject, match="holds no trainings"):
        training_results(store, "tiny")


def test_the_table_is_aligned_and_names_what_did_not_finish(store: MemoryStore) -> None:
    lines = results_text(training_results(store, "t")).splitlines()
    assert lines[0].startswith("t: test_accuracy (higher is better")
    assert lines[2].split() == ["bbbb", "2,000", "0.9200", "(n=1)", "1", "finished"]
    assert "0.84 ± 0.11 (n=4), median 0.85 [0.78, 0.91]" in lines[3]
    assert lines[3].endswith("4 finished, 1 failed, 1 open")
    assert lines[1].index("metric") == lines[2].index("0.92") == lines[3].index("0.84")
    assert lines[4:] == [
        "aaaa-seed-4 failed: non_finite: the loss is not finite in step 3",
        "aaaa-seed-5 has not finished",
    ]


def test_a_spread_shows_two_digits_of_its_deviation() -> None:
    assert spread_text(Spread.of([0.969, 0.972, 0.9752])) == "0.9721 ± 0.0031 (n=3), median 0.972 [0.970, 0.974]"
    assert spread_text(Spread.of([57.1, 58.9, 63.0])) == "59.7 ± 3.0 (n=3), median 58.9 [58.0, 61.0]"
    assert spread_text(Spread.of([])) == "no value"


def test_the_name_of_a_genotype_is_what_stands_before_the_seed() -> None:
    assert genotype_name("abc-seed-12") == "abc"
    assert genotype_name("a-seed-1-seed-2") == "a-seed-1"
