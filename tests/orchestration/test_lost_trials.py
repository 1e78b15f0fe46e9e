"""A trial killed, and Ray Train's controller in it: the CPUs that it had reserved are free again; the run goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.status import run_status
from tests.cluster.local_cluster import processes
from tests.orchestration.job import PATIENCE_S, RUN, Job, StartJob, job_config, until
from tests.orchestration.tiny import EXPERIMENT, assigned, is_clean, search_here, trace_digest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ONE_WORKER = ("operation.workers=1", "search.epochs=20", "operation.agree_every_steps=1")
TWO_CPUS = '{"CPU": 2}'


def trials(job: Job) -> list[int]:
    """Process ids of the trials that the job has started."""
    everybody = [process.pid for process in processes.family([processes.remembered(job.process.pid)])]
    return [pid for pid in everybody if b"ray::ImplicitFunc" in command_line(pid)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kill_trial(job: Job) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := trials(job)):
        assert time.monotonic() < deadline, "no trial was found"
        time.sleep(0.2)
    for pid in found:
        processes.kill(processes.remembered(pid))


def test_a_run_whose_trial_is_killed_twice_on_two_cpus_goes_on(tmp_path: Path, start_job: StartJob) -> None:
    store = LocalStore(tmp_path / "store")
    job = start_job(store, *ONE_WORKER, RAY_OVERRIDE_RESOURCES=TWO_CPUS)
    for claims in (1, 2):
        until(store, lambda status, claims=claims: status.claims == claims and status.step > 0, job)  # type: ignore[misc]
        kill_trial(job)
    code, answer = job.end()
    assert code == 0, (answer, job.last_lines())
    assert run_status(store, EXPERIMENT, RUN).claims == 3
    log = (tmp_path / "job0.log").read_text()
    assert log.count("the trial of a run was lost: the resources of its workers are free again") == 2

    untouched = LocalStore(tmp_path / "untouched")
    assert search_here(assigned(untouched, job_config(*ONE_WORKER)), untouched).kind == "finished"
    assert trace_digest(store, RUN) == trace_digest(untouched, RUN)
    assert is_clean(store)
