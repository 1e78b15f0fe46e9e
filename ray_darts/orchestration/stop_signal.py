"""A command's wish to end, seen by every process of its Ray job: one key in the cluster's own key-value store.

Written by the driver, read by rank 0 of each run once a second on a thread of its own, so asking costs the loop
nothing. Nothing depends on it: a run that never sees it is resumed from its last commit all the same.
"""

from __future__ import annotations

import logging
import threading
from typing import get_args

from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from ray_darts.search.sink import StopReason

logger = logging.getLogger("ray_darts.orchestration")

_NAMESPACE = b"ray_darts"
_POLL_S = 1.0


def ask_to_stop(session: str, reason: StopReason) -> None:
    """Tell every run of this session to commit and end."""
    _internal_kv_put(_key(session), reason.encode(), overwrite=True, namespace=_NAMESPACE)


def stop_asked(session: str) -> StopReason | None:
    """What this session was told, None as long as it may go on."""
    value = _internal_kv_get(_key(session), namespace=_NAMESPACE)
    told = None if value is None else value.decode()
    return next((reason for reason in get_args(StopReason) if reason == told), None)


def forget_stop(session: str) -> None:
    """Remove the key; the last thing a command does."""
    _internal_kv_del(_key(session), namespace=_NAMESPACE)


class StopWatch:
    """Polls on a daemon thread until the first answer; `reason` is read from memory."""

    def __init__(self, session: str) -> None:
        self.reason: StopReason | None = None
        self._session = session
        threading.Thread(target=self._poll, daemon=True, name="stop watch").start()

    def _poll(self) -> None:
        pause = threading.Event()
        while self.reason is None:
            try:
                self.reason = stop_asked(self._session)
            except (RayError, RuntimeError, ConnectionError) as error:
                logger.info("the stop signal cannot be read now: %s", error)
            pause.wait(_POLL_S)


def _key(session: str) -> bytes:
    return f"stop/{session}".encode()
