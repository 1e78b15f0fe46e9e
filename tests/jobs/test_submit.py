"""Submission without a cluster: the request, how the log is followed over lost connections, and exit codes."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ray.dashboard.modules.job.pydantic_models import JobType
from ray.job_submission import JobDetails, JobStatus

from ray_darts.cli.submit import read_token, requirements
from ray_darts.errors import ClusterError, ConfigError
from ray_darts.orchestration.submit import JobRequest, connect, exit_code_of, follow_job, run_without_retry

WORDS = ("--preset", "digits", "--set", 'operation.device="cpu"')


def details(status: JobStatus, driver_exit_code: int | None = None) -> JobDetails:
    return JobDetails(
        type=JobType.SUBMISSION,
        entrypoint="search",
        status=status,
        driver_exit_code=driver_exit_code,
        submission_id="j",
    )


class ScriptedJobs:
    """A job server that sends the log until the script breaks the connection; an entry is one connection."""

    def __init__(self, connections: list[list[str] | Exception], last: JobDetails) -> None:
        self._connections = connections
        self._last = last

    async def tail_job_logs(self, submission_id: str) -> AsyncIterator[str]:
        sent = self._connections.pop(0)
        if isinstance(sent, Exception):
            raise sent
        for chunk in sent:
            yield chunk
        if self._connections:
            raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_info(self, submission_id: str) -> JobDetails:
        return self._last if not self._connections else details(JobStatus.RUNNING)


@pytest.mark.parametrize(
    ("status", "driver_exit_code", "code"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 75, 75),
        (JobStatus.FAILED, 1, 1),
        (JobStatus.FAILED, -9, 137),
        (JobStatus.FAILED, None, 1),  # the head lost the driver
        (JobStatus.STOPPED, None, 130),
    ],
)
def test_end_of_a_job_is_the_exit_code_of_its_search(
    status: JobStatus, driver_exit_code: int | None, code: int
) -> None:
    assert exit_code_of(details(status, driver_exit_code)) == code


def test_log_is_written_once_over_broken_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_darts.orchestration.submit._POLL_S", 0.0)
    jobs = ScriptedJobs(
        [["one\ntwo\n"], ConnectionError("gone"), ["one\n", "two\nth"], ["one\ntwo\n", "three\n"]],
        details(JobStatus.FAILED, 76),
    )
    written: list[str] = []
    assert follow_job(jobs, "j", written.append) == 76  # type: ignore[arg-type]
    assert "".join(written) == "one\ntwo\nthree\n"


def test_cluster_that_does_not_come_back_is_an_error_that_names_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_darts.orchestration.submit._POLL_S", 0.0)
    jobs = ScriptedJobs([ConnectionError("gone")] * 3, details(JobStatus.RUNNING))
    with pytest.raises(ClusterError, match="job raysubmit_1 may go on"):
        follow_job(jobs, "raysubmit_1", print, timeout_s=-1.0)  # type: ignore[arg-type]


def test_a_sent_checkout_is_the_jobs_folder_and_its_script_is_the_entry_point(tmp_path: Path) -> None:
    request = JobRequest(WORDS, tmp_path, True, dependencies=("numpy>=2",), stop_wait_s=7)
    assert shlex.split(request.entrypoint()) == ["python", "jobs/search.py", *WORDS]
    assert request.runtime_env() == {
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "7"},
        "working_dir": str(tmp_path),
        "pip": ["numpy>=2"],
    }


def test_installed_package_is_the_entry_point_beside_a_sent_config(tmp_path: Path) -> None:
    for folder, keys in ((None, ["env_vars"]), (tmp_path, ["env_vars", "working_dir"])):
        request = JobRequest(WORDS, folder)
        assert shlex.split(request.entrypoint()) == ["ray-darts", "search", *WORDS]
        assert list(request.runtime_env()) == keys


def test_address_nobody_listens_on_is_an_error_even_where_another_is_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:2")
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1"):
        connect("http://127.0.0.1:1", None)
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:2"


def test_token_is_found_where_ray_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_token(None) is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("default\n")
    assert read_token(None) == "default"
    named = tmp_path / "named"
    named.write_text("named\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    assert read_token(None) == "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert read_token(None) == "given"
    assert read_token(named) == "named"
    with pytest.raises(ConfigError, match="cannot read the token file"):
        read_token(tmp_path / "none")


def test_dependencies_are_those_of_the_package_without_ray() -> None:
    names = [re.split(r"[^\w-]", line)[0] for line in requirements()]
    assert {"torch", "boto3", "pydantic"} <= set(names)
    assert not [name for name in names if name.startswith(("ray", "pytest", "scikit-learn"))]


@pytest.mark.parametrize("code", [0, 1, 75])
def test_code_that_may_be_retried_passes_through(code: int) -> None:
    assert run_without_retry([sys.executable, "-c", f"raise SystemExit({code})"], {2, 76, 77, 130}) == code
