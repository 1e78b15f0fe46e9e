"""How often a run was started by this command, and whether its last start is known to have ended by itself.

Kept in the cluster's own key-value store: rank 0 of a start counts, Ray Train's controller reports how a start ended.
A new cluster counts from one again. Knows no store.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ray.exceptions import RayError

from ray_darts.errors import RankLost
from ray_darts.orchestration.losses import ended_by_itself
from ray_darts.orchestration.ray_internals import UserCallback, cause_of, kv_delete, kv_get, kv_keys, kv_put

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
        """Whether the last start is known to have ended by itself; the answer is removed, each start asks once."""
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


def clear_starts(session: str) -> None:
    """Remove what is kept of a session; the last thing a command does. Raises what Ray raises."""
    for kind in ("start", "end"):
        for key in kv_keys(f"{kind}/{session}/".encode(), namespace=_NAMESPACE):
            kv_delete(key, namespace=_NAMESPACE)


class EndObserver(UserCallback):
    """Reports the end of each start; Ray Train calls it on its controller."""

    def __init__(self, starts: Sequence[RunStarts]) -> None:
        """`starts`: of each run of the worker group; only the one that was going on asks how its last start ended."""
        self._starts = tuple(starts)

    def after_exception(self, run_context: object, worker_exceptions: Mapping[int, Exception]) -> None:
        """Called once some ranks have raised or died."""
        by_itself = any(ended_by_itself(cause_of(error)) for error in worker_exceptions.values())
        for starts in self._starts:
            starts.report_end(by_itself)
