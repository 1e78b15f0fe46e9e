"""Submits a search as a job of a Ray cluster, follows its log, and returns the driver's own exit code.

`ray job submit` exits with 1 whatever went wrong. Nothing is kept on this side: the job goes on without this process,
and submitting it again continues the search from its store.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from ray_darts.errors import ClusterError
from ray_darts.exit_codes import DONE, FAILED, INTERRUPTED

_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_CHATTY_LOGGERS = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
_POLL_S = 1.0
_NO_ANSWER = (ConnectionError, RuntimeError, requests.RequestException, aiohttp.ClientError)

logger = logging.getLogger("ray_darts.orchestration")


@dataclass(frozen=True)
class JobRequest:
    """A search to submit. `words` are the arguments of `ray-darts search`.

    `folder`: is sent whole, and the job runs in it; None: nothing is sent. `has_package`: the folder brings the package
    and the jobs of a checkout; otherwise the package installed in the cluster's image runs. `dependencies`: pip
    requirements, for a cluster whose image lacks them. `stop_wait_s`: from the SIGTERM of `ray job stop` to SIGKILL;
    Ray's own 3 s are too short for a last commit.
    """

    words: tuple[str, ...]
    folder: Path | None = None
    has_package: bool = False
    dependencies: tuple[str, ...] = ()
    stop_wait_s: int = 60

    def entrypoint(self) -> str:
        """The shell command that the cluster runs."""
        program = ("python", "jobs/search.py") if self.has_package else ("ray-darts", "search")
        return shlex.join((*program, *self.words))

    def runtime_env(self) -> dict[str, object]:
        """What Ray prepares for the driver and its workers."""
        prepared: dict[str, object] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(self.stop_wait_s)}}
        if self.folder is not None:
            prepared["working_dir"] = str(self.folder)
        if self.dependencies:
            prepared["pip"] = list(self.dependencies)
        return prepared


def connect(address: str | None, token: str | None) -> JobSubmissionClient:
    """A client of the cluster's job server at `address` (http://host:8265, or RAY_API_SERVER_ADDRESS).

    Raises: ClusterError where nobody answers or the token is missing or refused.
    """
    headers = None if token is None else {"Authorization": f"Bearer {token}"}
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with _preferring(address):
            return JobSubmissionClient(address, headers=headers)
    except AuthenticationError as error:
        reason = str(error).partition("\n")[0]
        raise ClusterError(
            f"the cluster refused the connection: {reason}. Give its token as --token-file", address=address
        ) from error
    except (*_NO_ANSWER, ValueError) as error:
        raise ClusterError(
            f"no job server answers at {address or 'any known address'}: {error}", address=address
        ) from error


def submit_job(client: JobSubmissionClient, request: JobRequest) -> str:
    """Send the search and return its submission id. Raises: ClusterError."""
    try:
        submission_id = client.submit_job(entrypoint=request.entrypoint(), runtime_env=request.runtime_env())
    except _NO_ANSWER as error:
        raise ClusterError(f"the job could not be submitted: {error}") from error
    assert isinstance(submission_id, str)
    return submission_id


def follow_job(
    client: JobSubmissionClient, submission_id: str, write: Callable[[str], object], timeout_s: float = 600.0
) -> int:
    """Copy the job's log to `write` until it ends, and return its exit code; reconnect when the connection is lost.

    Raises: ClusterError when the cluster does not answer for `timeout_s`; the job may go on.
    """
    log = _Log(write)
    last_answer = time.monotonic()
    while True:
        try:
            asyncio.run(log.copy(client, submission_id))
            details = client.get_job_info(submission_id)
            if details.status.is_terminal():
                return exit_code_of(details)
            last_answer = time.monotonic()
        except _NO_ANSWER as error:
            if time.monotonic() - last_answer > timeout_s:
                raise ClusterError(
                    f"the cluster has not answered for {timeout_s:.0f} s; job {submission_id} may go on: {error}",
                    submission_id=submission_id,
                ) from error
            logger.info("job %s cannot be followed now: %s", submission_id, error)
        time.sleep(_POLL_S)


def exit_code_of(details: JobDetails) -> int:
    """The driver's own exit code; 130 for a stopped job, 128 + n for a signal, 1 where the driver left none."""
    if details.status == JobStatus.STOPPED:
        return INTERRUPTED
    if details.status == JobStatus.SUCCEEDED:
        return DONE
    return _shell_code(details.driver_exit_code or FAILED)


def run_without_retry(command: Sequence[str], codes: Collection[int]) -> int:
    """Run a job's command; if it ends with one of `codes`, end the job as STOPPED instead of FAILED.

    For a scheduler that retries a FAILED job and cannot read exit codes (a KubeRay RayJob). Returns the command's code.
    """
    stopped = threading.Event()
    # `ray job stop` signals every process of the job: the command handles the signal, this process waits for it.
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = _shell_code(subprocess.run(command, check=False).returncode)
        if code in codes and not stopped.is_set():
            submission_id = json.loads(os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"])["metadata"]["job_submission_id"]
            logger.warning("exit code %d must not be retried: job %s stops itself", code, submission_id)
            connect(None, None).stop_job(submission_id)
            # Wait for the signal: a job whose entrypoint exits before it is FAILED.
            stopped.wait(timeout=60)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code


def _shell_code(return_code: int) -> int:
    return 128 - return_code if return_code < 0 else return_code


@contextmanager
def _preferring(address: str | None) -> Iterator[None]:
    """Hide Ray's address variables, which its client prefers, where an address was given."""
    hidden = (
        {} if address is None else {name: os.environ.pop(name) for name in _ADDRESS_VARIABLES if name in os.environ}
    )
    try:
        yield
    finally:
        os.environ.update(hidden)


class _Log:
    """How much of a job's log has been written: the server sends it from its start after each reconnection."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._num_written = 0

    async def copy(self, client: JobSubmissionClient, submission_id: str) -> None:
        num_read = 0
        async for chunk in client.tail_job_logs(submission_id):
            fresh = chunk[max(0, self._num_written - num_read) :]
            num_read += len(chunk)
            if fresh:
                self._write(fresh)
                self._num_written = num_read
