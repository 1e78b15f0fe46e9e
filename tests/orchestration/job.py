"""A whole command as a process of its own, for tests that end it: `python -m tests.orchestration.job STORE key=value…`.

Searches one run of the tiny experiment and exits as `ray-darts search` would; the outcome goes to stdout as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.config import SearchConfig
from ray_darts.orchestration.plan import SweepRequest
from tests.orchestration.tiny import EXPERIMENT
from tests.search.searches import tiny_config

RUN = "first-order-seed-0"
PATIENCE_S = 240.0


def job_config(*overrides: str) -> SearchConfig:
    """Two workers, 60 steps, a commit at every agreement."""
    settings = (
        "search.epochs=20",
        "operation.workers=2",
        "operation.commit_every_s=0",
        "operation.max_failures=20",
        "operation.health_check_interval_s=1",
    )
    return tiny_config(*settings, *overrides)


class Job:
    """A command in a session of its own; `log` is what it wrote on stderr."""

    def __init__(self, store: LocalStore, overrides: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log.open("w")
        self._told: str | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.orchestration.job", store.uri, *overrides],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "GLOO_SOCKET_IFNAME": "lo", **environment},
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def end(self) -> tuple[int, dict[str, object]]:
        """Wait for its exit code and its outcome ({} where it was killed)."""
        if self._told is None:
            self._told, _ = self.process.communicate(timeout=PATIENCE_S)
            self._log.close()
        return self.process.returncode, json.loads(self._told) if self._told else {}

    def interrupt(self) -> None:
        """Ctrl-C, to the command alone."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL, to the command alone."""
        self.process.kill()


class StartJob(Protocol):
    """The fixture `start_job`: start a command on a store; it does not outlive the test."""

    def __call__(self, store: LocalStore, *overrides: str, **environment: str) -> Job: ...


def until(store: LocalStore, condition: Callable[[RunStatus], bool], job: Job | None = None) -> RunStatus:
    """Wait until the run's status in the store satisfies `condition`; fails when `job` ends before."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        status = run_status(store, EXPERIMENT, RUN)
        if condition(status):
            return status
        assert job is None or job.process.poll() is None, f"the job ended with {job.process.returncode} at {status}"
        time.sleep(0.2)
    raise AssertionError(f"waited {PATIENCE_S} s in vain; the run is {run_status(store, EXPERIMENT, RUN)}")


def main() -> int:
    """Search as a command does."""
    from ray_darts.orchestration.sweep import run_sweep

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    request = SweepRequest(job_config(*sys.argv[2:]), EXPERIMENT, sys.argv[1], (0,), ("first",))
    result = run_sweep(request, lambda statuses: None)
    sys.stdout.write(json.dumps({run: outcome.to_plain() for run, outcome in result.outcomes.items()}))
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
