"""Joining a Ray cluster, or starting one on this machine for the length of a command. Reads the environment."""

from __future__ import annotations

import io
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import ray

from ray_darts.errors import ClusterError

logger = logging.getLogger("ray_darts.orchestration")

_ADDRESS_VARIABLE = "RAY_ADDRESS"
_NOTICES_VARIABLE = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
_KNOCK_S = 10.0
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def named_cluster(address: str | None) -> str | None:
    """`address`, or what RAY_ADDRESS names (`ray job submit` sets it); None means a cluster of this machine."""
    return address or os.environ.get(_ADDRESS_VARIABLE)


@contextmanager
def ray_connection(address: str | None) -> Iterator[bool]:
    """Connect for the length of the block; yields whether the cluster was started here, for this command alone.

    `named_cluster` says which, `auto` the one that runs on this machine; without a name a cluster of this machine's
    cores and GPUs is started. A connection that exists is used and left. Within the block nothing of Ray's own
    reaches stdout.

    Raises: ClusterError when nothing answers there.
    """
    be_quiet()
    if ray.is_initialized():
        yield False
        return
    target = named_cluster(address)
    try:
        if target is None:
            _start_here()
        else:
            _knock(target)
            ray.init(address=target, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster answers at {target or 'this machine'}: {error}", address=target) from error
    try:
        with redirect_stdout(_RayVoice()):
            yield target is None
    finally:
        ray.shutdown()


def _knock(target: str) -> None:
    """Open and close a connection to `host:port`: Ray itself takes minutes to say that nobody is there.

    Ray means this node's own address where a loopback one is named, so either may answer. Raises: OSError.
    """
    host, _, port = target.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()
    except OSError:
        if host not in _LOOPBACK:
            raise
        own: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        socket.create_connection((own, int(port)), _KNOCK_S).close()


class _RayVoice(io.TextIOBase):
    """Takes what Ray prints to this process's stdout, where only a result belongs, into the debug log."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                logger.debug("ray: %s", line)
        return len(text)


def _start_here() -> None:
    """A cluster that nobody drains needs no watcher of drains: one process less per run. Ray's processes inherit it."""
    told = os.environ.get(_NOTICES_VARIABLE)
    os.environ.setdefault(_NOTICES_VARIABLE, "0")
    try:
        ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    finally:
        if told is None:
            del os.environ[_NOTICES_VARIABLE]


def be_quiet() -> None:
    """Keep Ray's own noise out of this process's output; errors stay."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
