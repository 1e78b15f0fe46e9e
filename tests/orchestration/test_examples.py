"""The examples, and the toys of the tests, as typed commands; the toys killed as a whole, typed again, equal bits.

Nothing but their own folder makes the plugins importable, neither here nor in Ray's processes.
"""

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
from tests.cluster.local_cluster import processes

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0
TOYS_RUN = "noisy-edges-first-order-seed-0"
PLUGINS = {"own_space": "dense", "toys": "toys"}
TOYS = """
plugins = ["toys"]
space = { kind = "toy" }
method = { kind = "noisy-edges" }
data = { kind = "dots", samples = 530 }
search = { batch_size = 16 }
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def typed(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """`ray-darts …` in the example's folder, which nothing else makes importable."""
    main = "from ray_darts.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", main, *words],
        cwd=folder,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def search(folder: Path, store: Path, *words: str) -> subprocess.Popen[bytes]:
    """One run of the example, of six epochs."""
    chosen = ("--config", "search.toml", "--name", "mine", "--seeds", "1", "--orders", "first")
    return typed(folder, "search", *chosen, "--store", str(store), "--set", "search.epochs=6", *words)


def digest(store: Path, run: str) -> str:
    """SHA-256 of the published alphas."""
    trace = pq.read_table(store / "mine" / "runs" / run / "alpha_trace.parquet")
    return hashlib.sha256(trace["alpha"].to_numpy().tobytes()).hexdigest()


def step_of(store: Path) -> int:
    """The last durable step."""
    if not (store / "mine" / "experiment.json").exists():
        return 0
    return max((run.step for run in api.open_experiment(store, "mine").status()), default=0)


def folder_of(name: str, tmp_path: Path) -> Path:
    """A copy of an example, or of the toys with a config."""
    folder = tmp_path / name
    if name != "toys":
        return Path(shutil.copytree(ROOT / "examples" / name, folder))
    folder.mkdir()
    shutil.copyfile(ROOT / "tests" / "toys.py", folder / "toys.py")
    (folder / "search.toml").write_text(TOYS)
    return folder


def is_verified_and_drawn(name: str, folder: Path, store: Path) -> None:
    """What the commands that read make of a finished search."""
    read = ("mine", "--store", str(store), "--plugin", PLUGINS[name])
    assert typed(folder, "verify", *read).wait(PATIENCE_S) == 0
    assert typed(folder, "best", *read, "--output", "best.json").wait(PATIENCE_S) == 0
    drawn = ("--plugin", PLUGINS[name], "--output", "cells.svg")
    assert typed(folder, "show", "best.json", *drawn).wait(PATIENCE_S) == 0
    assert (folder / "cells.svg").read_text().startswith("<svg")


def test_the_toys_search_and_continue_after_they_were_killed(tmp_path: Path) -> None:
    folder = folder_of("toys", tmp_path)
    fast = ("--set", "operation.commit_every_s=0", "--set", "operation.agree_every_steps=2")
    killed, whole = tmp_path / "killed", tmp_path / "whole"

    command = search(folder, killed, *fast)
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

    assert search(folder, killed, *fast).wait(PATIENCE_S) == 0
    assert search(folder, whole).wait(PATIENCE_S) == 0
    assert digest(killed, TOYS_RUN) == digest(whole, TOYS_RUN)
    is_verified_and_drawn("toys", folder, killed)


def test_the_example_of_a_space_searches(tmp_path: Path) -> None:
    """The example of an operation is searched as a job: tests/cluster/test_jobs_on_a_cluster.py."""
    folder = folder_of("own_space", tmp_path)
    assert search(folder, tmp_path / "store").wait(PATIENCE_S) == 0
    is_verified_and_drawn("own_space", folder, tmp_path / "store")
