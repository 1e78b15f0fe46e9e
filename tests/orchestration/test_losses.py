"""What is printed at a run's end: the durable step, and the cause in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError

from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.run_log import read_log
from ray_darts.errors import RankLost, StoreUnavailable
from ray_darts.orchestration.losses import describe_loss, first_cause
from tests.cli.running import ROOT
from tests.orchestration.tiny import EXPERIMENT, assigned, search_here
from tests.search.searches import tiny_config

RUN = "first-order-seed-0"

DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: RayTrainWorker
\tactor_id: 1d5a0c5b3e0f2a7c9d1e4b6f01000000
\tpid: 19145
\tnode_ip_address: 10.0.0.5
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed \
by the OOM killer due to high memory usage, (2) ray stop --force was called."""


OUT_OF_MEMORY = """1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, \
ID: b84fcff6a3cef18c8eb6c37498d01c95a08c4edd6c5f3242bf33dec5) was 21.50GB used / 23.54GB limit (0.913339)
OOM kill reason: Memory usage 23085449216B exceeded threshold of 22748457369B (90.0% of 25276063744B limit)
Object store memory usage: [- objects spillable: 0
- bytes spillable: 0
- objects unsealed: 0
"""

FILL_MEMORY = """
import ray
from ray_darts.orchestration.losses import describe_loss
settings = {"memory_usage_threshold": 0.001, "memory_monitor_refresh_ms": 100}
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _system_config=settings)

@ray.remote(max_restarts=0)
class Worker:
    def search(self):
        import time
        time.sleep(100)

try:
    ray.get(Worker.remote().search.remote())
except ray.exceptions.RayError as error:
    print(describe_loss(error))
"""


class EndingStore(LocalStore):
    """A folder that takes `records` records and no more."""

    def __init__(self, root: Path, records: int) -> None:
        super().__init__(root)
        self._left = records

    def put_if_absent(self, key: str, data: bytes) -> None:
        if "/log/" in key:
            if self._left == 0:
                raise StoreUnavailable(f"no answer for {key}")
            self._left -= 1
        super().put_if_absent(key, data)


def test_a_run_that_gives_the_store_up_reports_its_durable_step(tmp_path: Path) -> None:
    store = EndingStore(tmp_path, records=4)
    config = tiny_config("operation.commit_every_s=0", "operation.give_up_s=0.1", "operation.max_pending_commits=99")
    outcome = search_here(assigned(store, config), store)
    durable = read_log(store, RunKeys(EXPERIMENT, RUN))[-1].record.step
    assert durable > 0
    assert (outcome.kind, outcome.step) == ("store_given_up", durable)


def test_a_run_that_ends_with_an_error_reports_its_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    config = tiny_config("operation.commit_every_s=0", "operation.max_pending_commits=99")

    def mistaken(*_: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("ray_darts.orchestration.run_execution.conclude_run", mistaken)
    outcome = search_here(assigned(store, config), store)
    assert (outcome.kind, outcome.step) == ("error", 9)


def test_the_loss_of_a_process_is_one_line_without_ids() -> None:
    line = describe_loss(RuntimeError(DIED))
    assert line == "Worker unexpectedly exits with a connection error code 2. End of file."


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("first line\nsecond line"), "first line"),
        (RuntimeError(""), "RuntimeError"),
        (RuntimeError("x" * 1000), "x" * 300 + "…"),
        (None, "None"),
    ],
)
def test_any_other_error_is_its_first_line(error: Exception | None, line: str) -> None:
    assert describe_loss(error) == line


TRACE = "Traceback (most recent call last):\n  File ...\nValueError: a bad value"


def failing_task() -> RayTaskError:
    return RayTaskError("search", TRACE, ValueError("a bad value"))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "error",
    [
        UserExceptionWithTraceback(ValueError("a bad value"), TRACE),
        failing_task(),
        failing_task().as_instanceof_cause(),  # type: ignore[no-untyped-call]
        UserExceptionWithTraceback(failing_task(), TRACE),
        WorkerHealthCheckFailedError("rank 1", failing_task()),
    ],
    ids=["raised", "task", "task as its cause", "task in a worker", "worker"],
)
def test_what_a_worker_raised_is_reported_without_rays_wrapping(error: Exception) -> None:
    assert describe_loss(error) == "a bad value"


def test_the_cause_of_several_losses_is_not_the_loss_of_a_peer() -> None:
    lost = UserExceptionWithTraceback(RankLost("a collective broke"), TRACE)
    killed = WorkerHealthCheckFailedError("rank 1", ActorDiedError())
    memory = WorkerHealthCheckFailedError("rank 2", OutOfMemoryError("full"))  # type: ignore[no-untyped-call]
    assert isinstance(first_cause([lost, killed]), ActorDiedError)
    assert isinstance(first_cause([lost, killed, memory]), OutOfMemoryError)
    assert isinstance(first_cause([lost]), RankLost)
    assert first_cause([]) is None


def test_a_full_memory_is_one_line_with_the_amounts_and_what_to_change() -> None:
    assert describe_loss(RuntimeError(OUT_OF_MEMORY)) == (
        "a process was killed: node 192.0.2.2 ran out of memory (21.5 of 23.5 GB); use fewer runs at a time "
        "(operation.max_concurrent), or more CPUs per worker (operation.cpus_per_worker), so that fewer workers share "
        "a node"
    )


@pytest.mark.slow
def test_the_text_of_a_worker_that_ray_killed_for_memory_is_recognised() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FILL_MEMORY],
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert re.match(r"a process was killed: node [\d.]+ ran out of memory \([\d.]+ of [\d.]+ GB\); ", ran.stdout), ran
    assert ran.stdout.count("\n") == 1
