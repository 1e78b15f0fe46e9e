"""A space, a method and a data set that only the tests know: searched, resumed, verified, drawn and built."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import tests.toys  # noqa: F401 - registers the toys
from ray_darts import api
from ray_darts.artifacts.crash_points import set_crash_hook
from ray_darts.artifacts.export import export_traces
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.records import Environment
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.config import SearchConfig, validate_config
from ray_darts.orchestration.assignment import Assignment, RunOutcome, new_session, owner_of
from ray_darts.orchestration.data_access import open_data
from ray_darts.orchestration.requests import SearchRequest
from ray_darts.orchestration.run_execution import RankContext, execute_run
from ray_darts.protocols.method import ORDERS, Order
from ray_darts.report.cells import cells_svg, cells_text
from tests.cli.running import ROOT, ray_darts_process

EXPERIMENT = "toys"
STEPS = 15


class Crash(Exception):
    """A process that is lost."""


def toy_config() -> SearchConfig:
    """Fifteen steps of dots, a commit at every second one."""
    return validate_config(
        {
            "plugins": ["tests.toys"],
            "space": {"kind": "toy"},
            "method": {"kind": "noisy-edges", "noise": 0.5},
            "data": {"kind": "dots"},
            "alphas": {"learning_rate": 0.05},
            "search": {"epochs": 3, "batch_size": 16},
            "operation": {"commit_every_s": 0, "agree_every_steps": 2, "max_pending_commits": 99},
        }
    )


def assigned(store: LocalStore, order: Order) -> Assignment:
    """The run of an order, registered as a sweep does."""
    config = toy_config()
    digests = open_data(config, 0).digests
    request = SearchRequest(config, EXPERIMENT, store.uri, (0,), (order,))
    request.register(store, config, digests, request.runs)
    assignment = Assignment(
        config=config,
        experiment=EXPERIMENT,
        run=request.runs[0].run,
        coordinates=request.runs[0].coordinates,
        store_uri=store.uri,
        session=new_session(),
        data_digests=digests,
    )
    return Assignment.from_plain(json.loads(json.dumps(assignment.to_plain())))


def search(assignment: Assignment, store: LocalStore) -> RunOutcome | None:
    """One start of the run in this process."""
    environment = Environment(code="test", world_size=1, device_kind="cpu", threads=1)
    return execute_run(assignment, store, owner_of(assignment.session), environment, RankContext())


def crash_after(commits: int) -> None:
    """Lose the process at a commit."""
    left = commits

    def hook(point: str) -> None:
        nonlocal left
        left -= point == "advance.before_record"
        if left == 0:
            set_crash_hook(None)
            raise Crash

    set_crash_hook(hook)


@pytest.mark.parametrize("order", ORDERS)
def test_toys_are_searched_published_verified_drawn_and_resumed_bit_for_bit(tmp_path: Path, order: Order) -> None:
    whole, ended = LocalStore(tmp_path / "whole"), LocalStore(tmp_path / "ended")
    assignment = assigned(whole, order)
    assert search(assignment, whole) == RunOutcome("finished", step=STEPS)

    again = assigned(ended, order)
    for commits in (2, 1, 3):
        crash_after(commits)
        outcome = search(again, ended)
        assert outcome is not None
        assert outcome.kind != "finished"
    set_crash_hook(None)
    assert search(again, ended) == RunOutcome("finished", step=STEPS)

    run = assignment.run
    assert run == f"noisy-edges-{order}-order-seed-0"
    traces = [store.get(RunKeys(EXPERIMENT, run).alpha_trace).data for store in (whole, ended)]
    assert traces[0] == traces[1]
    for store in (whole, ended):
        report = verify_experiment(store, EXPERIMENT)
        assert report.clean, report.problems

    experiment = api.open_experiment(ended.uri, EXPERIMENT)
    best = experiment.best(verify=True)
    assert best.method == {"kind": "noisy-edges", "noise": 0.5}
    genotype = best.architecture()
    assert "h = 2" in cells_text(genotype)
    assert cells_svg(genotype).startswith("<svg")
    network = api.build_network(best, num_classes=8, image_channels=1, image_size=8)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 8)


def test_commands_read_toys_when_the_plugin_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    search(assigned(store, "first"), store)
    where = (EXPERIMENT, "--store", store.uri)
    genotype = tmp_path / "genotype.json"
    for words, wanted in (
        (("verify", *where), "toys: all as written"),
        (("trace", *where, "--output", str(tmp_path / "trace.csv")), "15 steps"),
        (("best", *where, "--output", str(genotype), "--json"), '"noisy-edges"'),
        (("show", str(genotype)), "dense cell"),
    ):
        ran = ray_darts_process(*words, "--plugin", "tests.toys", cwd=ROOT)
        assert (ran.code, wanted in ran.stdout) == (0, True), ran
    refused = ray_darts_process("verify", *where, cwd=ROOT)
    assert refused.code == 1
    assert "name its module (--plugin)" in refused.stdout


def test_every_group_of_parameters_is_traced(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assignment = assigned(store, "first")
    search(assignment, store)
    table = pq.read_table(Path(store.uri) / RunKeys(EXPERIMENT, assignment.run).alpha_trace)
    last = table.filter(table["step"].to_numpy() == STEPS).to_pylist()
    assert [row["parameter"] for row in last] == ["alphas"] * 12 + ["betas"] * 3
    betas = last[12:]
    assert [(row["source"], row["target"], row["operation"], row["probability"]) for row in betas] == [
        (0, 1, None, None),
        (0, 2, None, None),
        (1, 2, None, None),
    ]
    method = toy_config().method
    mixing = method.mixing(toy_config().space.layout(), [row["alpha"] for row in last])["dense"]
    assert [row["probability"] for row in last[:12]] == pytest.approx([value for edge in mixing for value in edge])
    assert {row["method"] for row in last} == {"noisy-edges"}
    output = tmp_path / "all.csv"
    assert export_traces(store, EXPERIMENT, None, output)[0].rows == STEPS * 15
    assert len(output.read_text().splitlines()) == 1 + STEPS * 15
    assert api.open_experiment(store.uri, EXPERIMENT).traces().count_rows() == STEPS * 15
