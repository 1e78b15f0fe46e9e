"""Sends a request again while the server does not serve it: the only layer that does, for every kind of failure.

botocore is set to one try per request. What a failure means is decided in `s3_errors`. Knows no operation of S3.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError as TransportError

from ray_darts.artifacts.contention import random_pause_s
from ray_darts.artifacts.s3_errors import translated
from ray_darts.config.operation import StoreSettings
from ray_darts.errors import StoreUnavailable

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S, _LONGEST_PAUSE_AFTER_SILENCE_S = 5.0, 1.5
_SILENT_S = 2.0

_Answer = TypeVar("_Answer")


class Requests:
    """Tries of one store's requests; safe in threads."""

    def __init__(self, settings: StoreSettings, uri: str) -> None:
        self._settings = settings
        self._uri = uri
        self._reported = False

    def ask(self, right: str, key: str, request: Callable[[], _Answer]) -> _Answer:
        """Send a request, again after each failure that means StoreUnavailable, for `store.retry_s` or at least once.

        A call takes at most `retry_s` and one try, or two tries where the first alone takes longer;
        `connect_timeout_s` and `read_timeout_s` bound a try in which no byte flows. A failure that has lasted for two
        seconds is logged once, and so is the answer that ends it.
        Raises: the package's errors only.
        """
        began = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = request()
            except (ClientError, BotoCoreError, TransportError, ResponseParserError) as error:
                meaning = translated(error, right, key, self._uri)
                pause_s = _pause_s(attempt, was_answered=isinstance(error, ClientError))
                passed_s = time.monotonic() - began
                if not isinstance(meaning, StoreUnavailable):
                    if isinstance(error, ClientError):
                        self._report_answer()
                    raise meaning from error
                if self._is_over(attempt, passed_s + pause_s):
                    raise meaning from error
                self._report(meaning, passed_s)
            else:
                self._report_answer()
                return answer
            time.sleep(pause_s)

    def _is_over(self, attempt: int, passed_s: float) -> bool:
        limit = self._settings.attempts
        if limit is not None and attempt >= limit:
            return True
        return attempt > 1 and passed_s > self._settings.retry_s

    def _report(self, failure: StoreUnavailable, passed_s: float) -> None:
        if passed_s >= _SILENT_S and not self._reported:
            self._reported = True
            logger.warning("%s; trying again for %.0f s per request", failure, self._settings.retry_s)

    def _report_answer(self) -> None:
        if self._reported:
            self._reported = False
            logger.warning("%s answers again", self._uri)


def _pause_s(attempt: int, *, was_answered: bool) -> float:
    """A random pause. A server that was silent is asked again soon, one that is too busy is given time."""
    longest = _LONGEST_PAUSE_S if was_answered else _LONGEST_PAUSE_AFTER_SILENCE_S
    return random_pause_s(attempt, _FIRST_PAUSE_S, longest)
