"""`ray-darts search` as a process of its own, for tests that end it: runs of the tiny experiment, on any store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.config import SearchConfig
from tests.cluster.local_cluster import processes
from tests.orchestration.tiny import EXPERIMENT
from tests.search.searches import TINY, eight_operations

RUN = "first-order-seed-0"
PATIENCE_S = 600.0  # never reached where all is well; several times what a busy machine needs

# two workers, 60 steps, a commit at every agreement
JOB = (
    "search.epochs=20",
    "operation.workers=2",
    "operation.commit_every_s=0",
    "operation.max_failures=20",
    "operation.health_check_interval_s=1",
)


def job_config(*overrides: str) -> SearchConfig:
    """What a job searches with."""
    return eight_operations(*JOB, *overrides)


class Job:
    """A command in a session of its own, which writes its log (stderr) to `log`."""

    def __init__(
        self, store: ObjectStore, seeds: int, overrides: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self._path, self._log = log, log.open("w")
        self._printed: str | None = None
        settings = [word for override in (*TINY, *JOB, *overrides) for word in ("--set", override)]
        words = ["--preset", "digits", "--name", EXPERIMENT, "--store", store.uri, "--orders", "first", "--json"]
        main = "from ray_darts.cli import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", main, "search", *words, "--seeds", str(seeds), *settings],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "GLOO_SOCKET_IFNAME": "lo", **environment},
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def end(self) -> tuple[int, dict[str, dict[str, object]]]:
        """Wait for its exit code and how each run ended ({} where it was killed)."""
        if self._printed is None:
            self._printed, _ = self.process.communicate(timeout=PATIENCE_S)
            self._log.close()
        return self.process.returncode, json.loads(self._printed)["outcomes"] if self._printed else {}

    def last_lines(self) -> str:
        """The end of its log: what a failing test shows."""
        return "\n".join(self._path.read_text().splitlines()[-40:])

    def interrupt(self) -> None:
        """Ctrl-C, to the command alone."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL, to the command alone."""
        self.process.kill()

    def kill_as_a_whole(self) -> None:
        """SIGKILL, to the command and to every process that it started."""
        everybody = processes.family([processes.remembered(self.process.pid)])
        self.process.kill()
        for process in everybody:
            processes.kill(process)


class StartJob(Protocol):
    """The fixture `start_job`: start a command on a store; it does not outlive the test."""

    def __call__(self, store: ObjectStore, *overrides: str, seeds: int = 1, **environment: str) -> Job: ...


def until(
    store: ObjectStore, condition: Callable[[RunStatus], bool], job: Job | None = None, run: str = RUN
) -> RunStatus:
    """Wait until the run's status in the store satisfies `condition`; fails when `job` ends before."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        status = run_status(store, EXPERIMENT, run)
        if condition(status):
            return status
        assert job is None or job.process.poll() is None, (
            f"the job ended with {job.process.returncode} at {status}\n{job.last_lines()}"
        )
        time.sleep(0.2)
    raise AssertionError(f"waited {PATIENCE_S} s in vain; the run is {run_status(store, EXPERIMENT, run)}")
