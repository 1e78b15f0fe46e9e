"""How often a run was started by this command, how its last start ended, and how far it had come.

Kept in the cluster's own key-value store: rank 0 of a start counts and says what is durable, Ray Train's controller
says how a start ended. A new cluster counts from one again. Knows no store.
"""

from __future__ import annotations

import logging
from typing import get_args

from ray.exceptions import RayError

from ray_darts.artifacts.records import EndKind
from ray_darts.errors import RankLost
from ray_darts.orchestration.ray_internals import kv_delete, kv_get, kv_keys, kv_put

logger = logging.getLogger("ray_darts.orchestration")

_NAMESPACE = b"ray_darts"
_KINDS = ("start", "end", "step", "reason", "attempt")
_UNREACHABLE = (RayError, RuntimeError, ConnectionError)


class RunStarts:
    """The starts of one run by one session. Nothing but `count` depends on an answer: a lost one is logged."""

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

    def report_end(self, kind: EndKind) -> None:
        """Keep how the last start ended, for the next one."""
        self._put("end", kind)

    def take_end(self) -> EndKind | None:
        """How the last start ended, None where nobody knows; the answer is removed, each start asks once."""
        told = self._get("end")
        try:
            kv_delete(self._key("end"), namespace=_NAMESPACE)
        except _UNREACHABLE as error:
            logger.info("how the last start ended cannot be removed: %s", error)
            return None
        return next((kind for kind in get_args(EndKind) if kind == told), None)

    def report_step(self, step: int) -> None:
        """Keep the last durable step."""
        self._put("step", str(step))

    def step(self) -> int:
        """The last durable step that a start has reported, 0 before the first."""
        return int(self._get("step") or 0)

    def report_reason(self, reason: str) -> None:
        """Keep why the run is not started again."""
        self._put("reason", reason)

    def reason(self) -> str | None:
        """Why the run is not started again, None where nobody said so."""
        return self._get("reason")

    def _key(self, kind: str) -> bytes:
        return f"{kind}/{self._name}".encode()

    def _put(self, kind: str, value: str) -> None:
        try:
            kv_put(self._key(kind), value.encode(), overwrite=True, namespace=_NAMESPACE)
        except _UNREACHABLE as error:
            logger.info("the %s of a start could not be kept: %s", kind, error)

    def _get(self, kind: str) -> str | None:
        try:
            value = kv_get(self._key(kind), namespace=_NAMESPACE)
        except _UNREACHABLE as error:
            logger.info("the %s of the last start cannot be read: %s", kind, error)
            return None
        return None if value is None else value.decode()


class KeptAttempts:
    """Texts that the attempts of one trial leave for the next ones; named by the first run of its group."""

    def __init__(self, session: str, run: str) -> None:
        self._prefix = f"attempt/{session}/{run}/"

    def all(self) -> list[str]:
        """In the order of the attempts. Raises what Ray raises."""
        keys = sorted(kv_keys(self._prefix.encode(), namespace=_NAMESPACE))
        return [value.decode() for key in keys if (value := kv_get(key, namespace=_NAMESPACE)) is not None]

    def add(self, text: str) -> None:
        """Add one. Raises what Ray raises."""
        number = len(kv_keys(self._prefix.encode(), namespace=_NAMESPACE))
        kv_put(f"{self._prefix}{number:06d}".encode(), text.encode(), overwrite=True, namespace=_NAMESPACE)


def clear_starts(session: str) -> None:
    """Remove what is kept of a session; the last thing a command does. Raises what Ray raises."""
    for kind in _KINDS:
        for key in kv_keys(f"{kind}/{session}/".encode(), namespace=_NAMESPACE):
            kv_delete(key, namespace=_NAMESPACE)
