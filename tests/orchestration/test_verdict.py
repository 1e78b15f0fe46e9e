"""From a search to a verdict as typed commands under Ray, killed as a whole on the way: nothing is done twice, no bit
changes, and the test set is opened once by each training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_darts.artifacts.best import read_best
from ray_darts.artifacts.experiment import list_runs, read_experiment
from ray_darts.artifacts.keys import RunKeys, openings_prefix, selection_of
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.status import run_status
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.config import load_training_config
from tests.cluster.local_cluster import processes
from tests.orchestration.tiny import search_here
from tests.orchestration.training_runs import assigned_runs, document_digests, request_of
from tests.search.searches import FEW_OPERATIONS
from tests.search.searches import TINY as SEARCH
from tests.training.tiny import TINY as TRAINING

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE_S = 400.0
EXPERIMENT, TRAININGS = "found", "trained"
SHORT = ("selection.network.channels=2", "selection.training.epochs=6", "selection.training.batch_size=13")
EAGER = ("operation.commit_every_s=0", "operation.max_concurrent=1")
TRAINED = (*TRAINING, "training.test=true", "training.epochs=12", "data.test_fraction=0.2", *EAGER)
"""The last override of a field counts."""


def typed(store: LocalStore, log: Path, *words: str, overrides: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """`ray-darts …` in a session of its own."""
    settings = [word for override in overrides for word in ("--set", override)]
    main = "from ray_darts.cli import main; main()"
    with log.open("w") as stderr:
        return subprocess.Popen(
            [sys.executable, "-c", main, *words, "--store", store.uri, "--json", *settings],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )


def killed_when(command: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """SIGKILL to the command and to all that it started, once `reached()` is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert command.poll() is None, "the command ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    everybody = processes.family([processes.remembered(command.pid)])
    command.kill()
    for process in everybody:
        processes.kill(process)
    command.communicate()


def ended(command: subprocess.Popen[str], log: Path) -> dict[str, object]:
    """The JSON result of a command that ends well."""
    printed, _ = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, log.read_text()[-4000:]
    result: dict[str, object] = json.loads(printed)
    return result


def finished(store: LocalStore, experiment: str) -> list[str]:
    """The runs of an experiment that have finished."""
    return [run for run in list_runs(store, experiment) if run_status(store, experiment, run).state == "finished"]


def test_a_search_is_selected_trained_and_tested_although_it_is_killed_on_the_way(tmp_path: Path) -> None:
    store, log = LocalStore(tmp_path / "store"), tmp_path / "log"
    selection = selection_of(EXPERIMENT)
    search = ("search", "--preset", "digits", "--name", EXPERIMENT, "--seeds", "2", "--orders", "first", "--select")
    overrides = (*SEARCH, FEW_OPERATIONS, *SHORT, *EAGER)

    command = typed(store, log, *search, "--methods", "darts,random", overrides=overrides)
    killed_when(command, lambda: 1 <= len(finished(store, selection)) < 4)
    before = {run: len(read_log(store, RunKeys(selection, run))) for run in finished(store, selection)}

    result = ended(typed(store, log, *search, "--methods", "darts,random", overrides=overrides), log)
    assert result["exit_code"] == 0
    assert len(finished(store, EXPERIMENT)) == 4
    assert {run: len(read_log(store, RunKeys(selection, run))) for run in before} == before, "trained again"
    best = read_best(store, EXPERIMENT, verify=True)
    assert best.metric.ranking == "selected"
    digest = read_experiment(store, EXPERIMENT).data_digests["data"]
    assert list(store.list_objects(openings_prefix(digest))) == []

    config = load_training_config("digits", overrides=TRAINED)
    request = request_of(store, config, (best.architecture(),), (0, 1), TRAININGS)
    first, second = (run.run for run in request.runs)
    train = ("train", EXPERIMENT, "--preset", "digits", "--name", TRAININGS, "--seeds", "2")
    command = typed(store, log, *train, overrides=TRAINED)
    killed_when(command, lambda: run_status(store, TRAININGS, first).step >= 3)
    command = typed(store, log, *train, overrides=TRAINED)
    killed_when(command, lambda: run_status(store, TRAININGS, second).step >= 5)
    result = ended(typed(store, log, *train, overrides=TRAINED), log)
    assert result["exit_code"] == 0

    untouched = LocalStore(tmp_path / "untouched")
    for assignment in assigned_runs(untouched, request_of(untouched, config, request.genotypes, (0, 1), TRAININGS)):
        assert search_here(assignment, untouched).kind == "finished"
    for run in (first, second):
        assert document_digests(store, run, TRAININGS) == document_digests(untouched, run, TRAININGS)
    (cell,) = result["results"]["genotypes"]  # type: ignore[index]
    assert (cell["finished"], cell["failed"], cell["spread"]["count"]) == (2, 0, 2)
    digest = read_experiment(store, TRAININGS).data_digests["data"]
    assert len(list(store.list_objects(openings_prefix(digest)))) == 2
    for experiment in (EXPERIMENT, selection, TRAININGS):
        assert verify_experiment(store, experiment).clean
    again = ended(typed(store, log, *train, overrides=TRAINED), log)
    assert again["results"] == result["results"], "the same command prints the result and starts nothing"
