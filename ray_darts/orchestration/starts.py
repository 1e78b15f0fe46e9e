"""What a command knows of the starts of its runs: their numbers, and whether the last one ended by itself.

Kept in the cluster's own key-value store: rank 0 of a start counts, Ray Train's controller reports how a start ended.
What is lost with the cluster is not counted. Knows no store.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from ray.exceptions import OutOfMemoryError, RayError

from ray_darts.errors import RankLost
from ray_darts.orchestration.ray_internals import UserCallback, cause_of, kv_delete, kv_get, kv_put

logger = logging.getLogger("ray_darts.orchestration")

_NAMESPACE = b"ray_darts"
_UNREACHABLE = (RayError, RuntimeError, ConnectionError)


class RunStarts:
    """The starts of one run by one session."""

    def __init__(self, session: str, run: str) -> None:
        self._name = f"{session}/{run}"

    def count(self) -> int:
        """The number of this start, from 1; each number is given once. Raises: RankLost."""
        number = 1
        try:
            while kv_put(f"start/{self._name}/{number}".encode(), b"", overwrite=False, namespace=_NAMESPACE):
                number += 1
        except _UNREACHABLE as error:
            raise RankLost(f"the cluster does not answer at the start of a run: {error}") from error
        return number

    def report_end(self, by_itself: bool) -> None:
        """Keep how the last start ended, for the next one."""
        try:
            kv_put(self._end, b"1" if by_itself else b"0", overwrite=True, namespace=_NAMESPACE)
        except _UNREACHABLE as error:
            logger.info("how a start ended could not be kept: %s", error)

    def take_end(self) -> bool:
        """Whether the start before this one is known to have ended by itself; asked once by each start."""
        try:
            ended = kv_get(self._end, namespace=_NAMESPACE) == b"1"
            kv_delete(self._end, namespace=_NAMESPACE)
        except _UNREACHABLE as error:
            logger.info("how the last start ended cannot be read: %s", error)
            return False
        return ended

    @property
    def _end(self) -> bytes:
        return f"end/{self._name}".encode()


class EndObserver(UserCallback):
    """Reports the end of each start; Ray Train calls it on its controller."""

    def __init__(self, starts: RunStarts) -> None:
        self._starts = starts

    def after_exception(self, run_context: object, worker_exceptions: Mapping[int, Exception]) -> None:
        """Called once some ranks have raised or died."""
        self._starts.report_end(any(ended_by_itself(cause_of(error)) for error in worker_exceptions.values()))


def ended_by_itself(cause: BaseException) -> bool:
    """Whether a rank ended for a reason of its own: its memory or its device, not a lost peer, process or machine.

    A process that died without a reason counts as killed: the system does not say by whom.
    """
    if isinstance(cause, RankLost):
        return False
    return isinstance(cause, OutOfMemoryError | torch.AcceleratorError)
