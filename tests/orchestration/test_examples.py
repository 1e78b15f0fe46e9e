"""The examples as their READMEs have them: typed in their folder, killed as a whole, typed again, equal bits."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_darts import api
from ray_darts.artifacts.verify import verify_experiment
from tests.cluster.local_cluster import processes

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0
RUN = "first-order-seed-0"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def typed(folder: Path, store: Path, *words: str) -> subprocess.Popen[bytes]:
    """`ray-darts search --config search.toml …` in the example's folder, which nothing else makes importable."""
    main = "from ray_darts.cli import main; main()"
    command = [sys.executable, "-P", "-c", main, "search", "--config", "search.toml", "--name", "mine"]
    return subprocess.Popen(
        [*command, "--seeds", "1", "--orders", "first", "--store", str(store), *words],
        cwd=folder,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def digest(store: Path) -> str:
    """SHA-256 of the published alphas."""
    trace = pq.read_table(store / "mine" / "runs" / RUN / "alpha_trace.parquet")
    return hashlib.sha256(trace["alpha"].to_numpy().tobytes()).hexdigest()


def step_of(store: Path) -> int:
    """The last durable step."""
    if not (store / "mine" / "experiment.json").exists():
        return 0
    return max((run.step for run in api.open_experiment(store, "mine").status()), default=0)


@pytest.mark.parametrize("name", ["own_operation", "own_space"])
def test_an_example_searches_and_continues_after_it_was_killed(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(ROOT / "examples" / name, folder)
    fast = ("--set", "operation.commit_every_s=0", "--set", "operation.agree_every_steps=2")
    killed, whole = tmp_path / "killed", tmp_path / "whole"

    command = typed(folder, killed, *fast, "--set", "search.epochs=6")
    deadline = time.monotonic() + PATIENCE_S
    while step_of(killed) < 4 and time.monotonic() < deadline:
        assert command.poll() is None, "the search ended before it was killed"
        time.sleep(0.2)
    everybody = processes.family([processes.remembered(command.pid)])
    command.kill()
    for process in everybody:
        processes.kill(process)
    command.wait()
    assert step_of(killed) >= 4

    assert typed(folder, killed, *fast, "--set", "search.epochs=6").wait(PATIENCE_S) == 0
    assert typed(folder, whole, "--set", "search.epochs=6").wait(PATIENCE_S) == 0
    assert digest(killed) == digest(whole)
    report = verify_experiment(api.open_experiment(killed, "mine").store, "mine")
    assert report.clean, report.problems
