"""Runs of random search from the request to everything that reads a store."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from ray_darts import api
from ray_darts.artifacts.export import export_traces
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.records import Environment
from ray_darts.artifacts.statuses import experiment_status
from ray_darts.config.kinds import read_method
from ray_darts.methods.random import RandomSearch
from ray_darts.orchestration.assignment import Assignment, RunOutcome, new_session, owner_of
from ray_darts.orchestration.data_access import open_data
from ray_darts.orchestration.plan import plan_sweep
from ray_darts.orchestration.requests import RequestedRun, SearchRequest
from ray_darts.orchestration.run_execution import RankContext, execute_run
from ray_darts.report.table import status_line
from tests.orchestration.tiny import EXPERIMENT, is_clean
from tests.search.searches import tiny_config

CONFIG = tiny_config("search.epochs=1")
LAYOUT = CONFIG.space.layout()
ENVIRONMENT = Environment(code="test", world_size=1, device_kind="cpu", threads=1)


def registered(store: LocalStore, *methods: str) -> tuple[SearchRequest, dict[str, str]]:
    """A request with two seeds, registered as a sweep does, and the data's digests."""
    digests = dict(open_data(CONFIG, 0).digests)
    named = tuple(read_method({"kind": name}) for name in methods)
    request = SearchRequest(CONFIG, EXPERIMENT, store.uri, (0, 1), ("first",), methods=named)
    request.check()
    request.register(store, CONFIG, digests, request.runs)
    return request, digests


def done(store: LocalStore, run: RequestedRun, digests: dict[str, str]) -> RunOutcome | None:
    """One start of a run in this process."""
    assignment = Assignment(
        config=CONFIG,
        experiment=EXPERIMENT,
        task=run.task,
        run=run.run,
        coordinates=run.coordinates,
        store_uri=store.uri,
        session=new_session(),
        data_digests=digests,
    )
    plain = Assignment.from_plain(json.loads(json.dumps(assignment.to_plain())))
    return execute_run(plain, store, owner_of(plain.session), ENVIRONMENT, RankContext())


def test_draws_are_published_verified_shown_and_exported(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    request, digests = registered(store, "random")
    assert [run.run for run in request.runs] == ["random-seed-0", "random-seed-1"]
    for run in request.runs:
        assert done(store, run, digests) == RunOutcome("finished", step=1)
    assert is_clean(store)
    assert plan_sweep(request, store).to_do == ()

    drawn = [RandomSearch().decode(LAYOUT, RandomSearch().draw(LAYOUT, seed)).genotype for seed in (0, 1)]
    for run, genotype in zip(request.runs, drawn, strict=True):
        keys = RunKeys(EXPERIMENT, run.run)
        assert json.loads(store.get(keys.genotype).data) == genotype.to_data()
    first, second = experiment_status(store, EXPERIMENT)
    assert (first.state, first.step, first.total_steps, first.epoch) == ("finished", 1, 1, 0)
    assert second.metric is not None
    assert second.metric.value is None
    assert status_line(first).startswith("random-seed-0: finished epoch 0 step 1/1")

    histories = export_traces(store, EXPERIMENT, None, tmp_path / "traces.parquet")
    assert [(each.run, each.steps, each.rows) for each in histories] == [
        (run.run, 1, LAYOUT.num_alphas) for run in request.runs
    ]
    table = pq.read_table(tmp_path / "traces.parquet")
    assert set(table["order"].to_pylist()) == {None}
    assert set(table["method"].to_pylist()) == {"random"}
    assert table["alpha"].to_pylist() == table["probability"].to_pylist()

    experiment = api.open_experiment(store.uri, EXPERIMENT)
    assert experiment.traces().count_rows() == 2 * LAYOUT.num_alphas
    metrics = experiment.metrics().to_pylist()
    assert [row["genotype"] for row in metrics] == [genotype.to_json() for genotype in drawn]
    assert {(row["order"], row["train_loss"]) for row in metrics} == {(None, None)}
    best = experiment.best(verify=True)
    assert (best.run, best.order, best.method) == ("random-seed-0", None, {"kind": "random"})


def test_a_search_ranks_before_every_draw_whichever_is_published_first(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    request, digests = registered(store, "random", "darts")
    names = [run.run for run in request.runs]
    assert names == ["random-seed-0", "random-seed-1", "first-order-seed-0", "first-order-seed-1"]
    for name in ("random-seed-0", "first-order-seed-1", "random-seed-1"):
        outcome = done(store, request.runs[names.index(name)], digests)
        assert outcome is not None
        assert outcome.kind == "finished"
    experiment = api.open_experiment(store.uri, EXPERIMENT)
    assert experiment.best(verify=True).run == "first-order-seed-1"
    assert set(experiment.traces().to_table()["order"].to_pylist()) == {None, "first"}
    assert is_clean(store)


def test_a_finished_draw_is_not_drawn_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    request, digests = registered(store, "random")
    assert done(store, request.runs[0], digests) == done(store, request.runs[0], digests)
