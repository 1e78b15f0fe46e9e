"""Joining a Ray cluster, or starting one on this machine for the length of a command. Reads the environment."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TextIO, cast

import ray

from ray_darts.errors import ClusterError
from ray_darts.orchestration.head import check_head
from ray_darts.orchestration.plugin_packages import import_folders, sent_packages
from ray_darts.orchestration.ray_internals import (
    RAY_THREADS,
    SOCKET_PATH,
    canonicalize_bootstrap_address,
    get_default_ray_temp_dir,
)
from ray_darts.orchestration.session_folder import Connection, leaving_cluster

logger = logging.getLogger("ray_darts.orchestration")

_ADDRESS_VARIABLE = "RAY_ADDRESS"
_NOTICES_VARIABLE = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_OWN = "local"
_SHORT_FOLDER = "/tmp/ray"
_MAX_SOCKET_PATH_BYTES = 103  # 107 on Linux, 103 on macOS
_OUTPUT_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def named_cluster(address: str | None) -> str | None:
    """`address`, else RAY_ADDRESS (`ray job submit` sets it); None, as of `local`, means a cluster of this machine."""
    named = address or os.environ.get(_ADDRESS_VARIABLE)
    return None if named in ("", _OWN) else named


@contextmanager
def ray_connection(address: str | None, plugins: Sequence[str] = ()) -> Iterator[Connection]:
    """Connect for the length of the block.

    The code of `plugins` (loaded modules) can be imported in every process that Ray starts for this command.
    `named_cluster` names it (`auto`: the one that runs on this machine); without a name a cluster of this machine's
    cores and GPUs is started, whatever other clusters run or have run here. An existing connection is used and kept.
    In the block Ray prints nothing to stdout.

    Raises: ClusterError when nothing answers at the address, after `head.ANSWER_TIMEOUT_S` at the latest.
    """
    reduce_ray_output()
    with redirect_stdout(cast("TextIO", _StdoutWithoutRay(sys.stdout))):
        if ray.is_initialized():
            yield Connection(is_own=False)
            return
        target = named_cluster(address)
        _connect(target, plugins)
        connection = Connection(is_own=target is None)
        with leaving_cluster(connection):
            yield connection


def _connect(target: str | None, plugins: Sequence[str]) -> None:
    if target is None:
        try:
            _start_local_cluster(import_folders(plugins))
        except Exception as error:  # Ray raises a bare Exception when its processes do not start in time
            raise ClusterError(f"no Ray cluster could be started on this machine: {error}") from error
        return
    try:
        check_head(str(canonicalize_bootstrap_address(target)) if target == "auto" else target)
        _join_cluster(target, plugins)
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster answers at {target}: {error}", address=target) from error


class _StdoutWithoutRay:
    """This process's stdout, where only a result belongs: what Ray's threads print there goes to the debug log.

    Ray reports what happens in its own processes from a thread in this one, at any moment.
    """

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def write(self, text: str) -> int:
        if not threading.current_thread().name.startswith(RAY_THREADS):
            return self._stdout.write(text)
        for line in text.splitlines():
            if line.strip():
                logger.debug("ray: %s", line)
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stdout, name)


def _join_cluster(target: str, plugins: Sequence[str]) -> None:
    """Connect to a running cluster; Ray sends the plugins, unless a job has brought them."""
    in_job = _JOB_VARIABLE in os.environ
    with sent_packages(() if in_job else plugins) as packages:
        runtime_env = {"py_modules": [str(package) for package in packages]} if packages else None
        ray.init(address=target, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_env)


def _start_local_cluster(folders: Sequence[str]) -> None:
    """Start a cluster whose processes can import from `folders`.

    The address `local` makes Ray ignore the file that a crashed or foreign cluster has left in its folder. Ray's
    preemption watcher is off: nobody drains the node.
    """
    path = os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])])
    notices = os.environ.get(_NOTICES_VARIABLE, "0")
    with _environment({_NOTICES_VARIABLE: notices, **({"PYTHONPATH": path} if folders else {})}):
        ray.init(
            address=_OWN,
            num_cpus=os.cpu_count(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=_temporary_folder(),
        )


def _temporary_folder() -> str | None:
    """Where Ray keeps logs and sockets; None is its own choice, unless the path of a socket would be too long there."""
    folder: str = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
    if len(os.fsencode(folder + SOCKET_PATH)) <= _MAX_SOCKET_PATH_BYTES:
        return None
    logger.warning("Ray uses the folder %s: the path of a socket in %s would be too long", _SHORT_FOLDER, folder)
    return _SHORT_FOLDER


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables in the block; Ray's processes inherit those of the process that starts them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def reduce_ray_output() -> None:
    """Silence Ray's progress output and warnings in this process; errors stay."""
    for name, value in _OUTPUT_SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
