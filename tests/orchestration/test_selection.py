"""A selection in this process: equal cells are trained once, the best short training wins, and nothing runs twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_darts.artifacts.best import read_best
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys, openings_prefix, selection_of
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.config import SearchConfig, load_config
from ray_darts.errors import ConfigError, MissingObject
from ray_darts.methods.random import RandomSearch
from ray_darts.orchestration.budget import Budget
from ray_darts.orchestration.requests import SearchRequest
from ray_darts.orchestration.selection import plan_selection, select
from tests.orchestration.tiny import search_here
from tests.orchestration.training_runs import assigned_runs
from tests.search.searches import FEW_OPERATIONS, TINY

EXPERIMENT = "chosen"
SEEDS = (0, 1, 2)


def config() -> SearchConfig:
    """Tiny, also in its selection."""
    selection = ("selection.network.channels=2", "selection.training.epochs=1", "selection.training.batch_size=13")
    return load_config("digits", overrides=[*TINY, FEW_OPERATIONS, *selection])


def request_of(store: LocalStore, select: Budget | None = None) -> SearchRequest:
    """Random cells only, which cost nothing to find."""
    return SearchRequest(
        config(), EXPERIMENT, store.uri, SEEDS, (), methods=(RandomSearch(),), select=select or Budget()
    )


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store with a finished search."""
    store = LocalStore(tmp_path / "store")
    for assignment in assigned_runs(store, request_of(store)):
        assert search_here(assignment, store).kind == "finished"
    return store


def ignore(runs: object) -> None:
    """Observe nothing."""


def test_the_cell_of_the_best_short_training_becomes_the_best(store: LocalStore) -> None:
    before = read_best(store, EXPERIMENT)
    assert before.metric.value is None
    plan = plan_selection(request_of(store), store)
    assert plan.trainings is not None
    for assignment in assigned_runs(store, plan.trainings):
        assert search_here(assignment, store).kind == "finished"
    result = select(request_of(store), ignore)  # every training has finished: it starts no Ray
    assert [row.value for row in result.runs] == sorted((row.value for row in result.runs), reverse=True)  # type: ignore[type-var]
    best = read_best(store, EXPERIMENT, verify=True)
    assert (best.run, best.metric.ranking) == (result.runs[0].run, "selected")
    assert best.metric.name == "selected_validation_accuracy"
    assert best.metric.value == result.runs[0].value
    assert {row.order for row in result.runs} == {None}
    assert all(row.parameters for row in result.runs)
    assert verify_experiment(store, EXPERIMENT).clean
    assert verify_experiment(store, selection_of(EXPERIMENT)).clean
    assert list(store.list_objects(openings_prefix(best_digest(store)))) == [], "the test set stays shut"


def test_verify_knows_the_scores_of_a_selection_and_repairs_with_them(store: LocalStore) -> None:
    plan = plan_selection(request_of(store), store)
    assert plan.trainings is not None
    for assignment in assigned_runs(store, plan.trainings):
        search_here(assignment, store)
    select(request_of(store), ignore)
    key, best = ExperimentKeys(EXPERIMENT).best, read_best(store, EXPERIMENT)
    forged = best.model_copy(update={"metric": best.metric.model_copy(update={"value": 0.99999})})
    store.put(key, forged.to_bytes())
    (problem,) = verify_experiment(store, EXPERIMENT).problems
    assert "which no training has" in problem.detail
    store.delete(key)
    assert verify_experiment(store, EXPERIMENT, repair=True).clean
    assert read_best(store, EXPERIMENT) == best


def best_digest(store: LocalStore) -> str:
    from ray_darts.artifacts.experiment import read_experiment

    return read_experiment(store, EXPERIMENT).data_digests["data"]


def test_a_finished_short_training_is_never_repeated(store: LocalStore) -> None:
    plan = plan_selection(request_of(store), store)
    assert plan.trainings is not None
    first, *rest = assigned_runs(store, plan.trainings)
    search_here(first, store)
    length = len(read_log(store, RunKeys(first.experiment, first.run)))
    for assignment in assigned_runs(store, plan_selection(request_of(store), store).trainings or plan.trainings):
        search_here(assignment, store)
    assert len(read_log(store, RunKeys(first.experiment, first.run))) == length
    assert len(select(request_of(store), ignore).runs) == len(rest) + 1


def test_runs_with_equal_cells_share_one_training_and_its_score(store: LocalStore) -> None:
    twin = SearchRequest(config(), EXPERIMENT, store.uri, (7,), (), methods=(RandomSearch(),))
    (assignment,) = assigned_runs(store, twin)
    same = assignment.model_copy(update={"coordinates": assignment.coordinates.model_copy(update={"seed": SEEDS[0]})})
    search_here(same, store)  # draws the cell of seed 0 under the name of seed 7
    plan = plan_selection(request_of(store), store)
    assert len(plan.candidates) == 4
    assert plan.trainings is not None
    assert len(plan.trainings.genotypes) == len(plan.representatives) == 3
    for each in assigned_runs(store, plan.trainings):
        search_here(each, store)
    rows = {row.run: row for row in select(request_of(store), ignore).runs}
    assert rows["random-seed-7"].value == rows["random-seed-0"].value
    assert rows["random-seed-7"].cell == rows["random-seed-0"].cell


def test_cells_beyond_the_budget_are_not_trained_and_never_the_best(store: LocalStore) -> None:
    everything = plan_selection(request_of(store), store)
    assert everything.trainings is not None
    figures = [int(reason.split()[0].replace(",", "")) for reason in _excess(store, 1).values()]
    limit = sorted(figures)[1]
    plan = plan_selection(request_of(store, Budget(max_parameters=limit)), store)
    assert plan.trainings is not None
    assert len(plan.trainings.genotypes) == len([value for value in figures if value <= limit])
    assert all("--max-parameters" in reason for reason in plan.excess.values())
    nothing = select(request_of(store, Budget(max_multiply_adds=1)), ignore)
    assert all("multiply-adds" in row.note for row in nothing.runs)
    assert read_best(store, EXPERIMENT).metric.ranking == "interim"


def _excess(store: LocalStore, limit: int) -> dict[str, str]:
    plan = plan_selection(request_of(store, Budget(max_parameters=limit)), store)
    assert plan.trainings is None
    return dict(plan.excess)


def test_there_is_nothing_to_select_from_before_a_run_has_finished(tmp_path: Path) -> None:
    empty = LocalStore(tmp_path)
    with pytest.raises(MissingObject, match="nothing to select from"):
        select(request_of(empty), ignore)


def test_a_config_without_a_selection_is_refused() -> None:
    bare = load_config(settings={"data": {"kind": "images"}})
    with pytest.raises(ConfigError, match=r"no section \[selection\]"):
        SearchRequest(bare, EXPERIMENT, "x", (0,), ("first",), select=Budget()).check()
    with pytest.raises(ConfigError, match="never opens the test set"):
        load_config("digits", overrides=["selection.training.test=true"])
    with pytest.raises(ConfigError, match="ranks by the alpha half"):
        load_config("digits", overrides=["selection.training.hold_out=false"])
    with pytest.raises(ConfigError, match=r"selection\.training"):
        load_config("digits", overrides=["selection.training.drop_path=2"])
