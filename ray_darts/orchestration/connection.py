"""Joining a Ray cluster, or starting one on this machine for the length of a command. Reads the environment."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import ray

from ray_darts.errors import ClusterError

logger = logging.getLogger("ray_darts.orchestration")

_ADDRESS_VARIABLE = "RAY_ADDRESS"
_NOTICES_VARIABLE = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextmanager
def ray_connection(address: str | None) -> Iterator[bool]:
    """Connect for the length of the block; yields whether the cluster was started here, for this command alone.

    `address` or RAY_ADDRESS (which `ray job submit` sets) names a cluster, `auto` the one of this machine; without
    either a cluster of this machine's cores and GPUs is started. A connection that exists is used and left. Within
    the block nothing of Ray's own reaches stdout.

    Raises: ClusterError when nothing answers there.
    """
    be_quiet()
    if ray.is_initialized():
        yield False
        return
    target = address or os.environ.get(_ADDRESS_VARIABLE)
    try:
        if target is None:
            _start_here()
        else:
            ray.init(address=target, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster answers at {target or 'this machine'}: {error}", address=target) from error
    try:
        with redirect_stdout(_RayVoice()):
            yield target is None
    finally:
        ray.shutdown()


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
