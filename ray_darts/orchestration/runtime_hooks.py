"""What the process of a rank asks and reports: stop requests, drain notices, reports, gauges, the start before it.

A stop request is one key in the cluster's own key-value store: the driver writes it, rank 0 of each run reads it once
a second in a thread, so the loop only reads memory. A run that never sees it is resumed from its last commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Protocol, get_args

from ray.exceptions import RayError

from ray_darts.artifacts.records import EndKind
from ray_darts.orchestration.ray_internals import kv_delete, kv_get, kv_put
from ray_darts.protocols.task import StopReason

logger = logging.getLogger("ray_darts.orchestration")

_NAMESPACE = b"ray_darts"
_POLL_S = 1.0


class RuntimeHooks(Protocol):
    """One object per rank; the worker's speaks to Ray.

    `previous_end`: how the start of this run before this one ended, None where nobody knows.
    """

    @property
    def previous_end(self) -> EndKind | None: ...

    def stop_requested(self) -> StopReason | None:
        """Why the command wants to end; read from memory, called on every rank, an answer on any of them counts."""
        ...

    def losing_node(self) -> bool:
        """Whether a node of this run will be taken away; a collective of all ranks. Raises: RankLost."""
        ...

    def report(self, metrics: Mapping[str, object]) -> None:
        """Report an epoch's scalars to Ray; a barrier of all ranks. Raises: RankLost."""
        ...

    def gauge(self, name: str, value: float) -> None:
        """Publish a number of this run for Prometheus; rank 0 only, any thread."""
        ...

    def committed(self, step: int, seconds: float) -> None:
        """Say that everything up to `step` is durable, after a commit of `seconds`; rank 0 only, any thread."""
        ...


class NoHooks:
    """Hooks of a process without Ray: nothing is asked and nothing is reported."""

    previous_end: EndKind | None = None

    def stop_requested(self) -> StopReason | None:
        """Return None."""
        return None

    def losing_node(self) -> bool:
        """Return False."""
        return False

    def report(self, metrics: Mapping[str, object]) -> None:
        """Do nothing."""

    def gauge(self, name: str, value: float) -> None:
        """Do nothing."""

    def committed(self, step: int, seconds: float) -> None:
        """Do nothing."""


def request_stop(session: str, reason: StopReason) -> None:
    """Ask every run of this session to commit and end."""
    kv_put(_key(session), reason.encode(), overwrite=True, namespace=_NAMESPACE)


def read_stop_request(session: str) -> StopReason | None:
    """The reason that was requested for this session, None as long as it may go on."""
    value = kv_get(_key(session), namespace=_NAMESPACE)
    requested = None if value is None else value.decode()
    return next((reason for reason in get_args(StopReason) if reason == requested), None)


def clear_stop(session: str) -> None:
    """Remove the key; the last thing a command does."""
    kv_delete(_key(session), namespace=_NAMESPACE)


class StopPoller:
    """Polls in a daemon thread until the first stop request; `reason` is read from memory."""

    def __init__(self, session: str) -> None:
        self.reason: StopReason | None = None
        self._session = session
        threading.Thread(target=self._poll, daemon=True, name="stop poller").start()

    def _poll(self) -> None:
        pause = threading.Event()
        while self.reason is None:
            try:
                self.reason = read_stop_request(self._session)
            except (RayError, RuntimeError, ConnectionError) as error:
                logger.info("the stop request cannot be read now: %s", error)
            pause.wait(_POLL_S)


def _key(session: str) -> bytes:
    return f"stop/{session}".encode()
