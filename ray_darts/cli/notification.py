"""`--on-end URL`: posts one JSON when a search or training ends, well or not. Never changes how it ends.

The JSON holds names, counts, the metric and where the results lie; no words of the command, no config, no message of an
error, so no secret that one of them may hold. Its field `text` is what chat services show.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from ray_darts import __version__
from ray_darts.cli.output import report_line
from ray_darts.errors import ConfigError, RayDartsError
from ray_darts.exit_codes import (
    BUDGET_SPENT,
    BUG,
    DONE,
    FAILED,
    INTERRUPTED,
    STORE_GIVEN_UP,
    SUPERSEDED,
    USAGE,
    exit_code_of_error,
)
from ray_darts.hosts import is_loopback
from ray_darts.messages import shown_message

_TIMEOUT_S, _PATIENCE_S = 10.0, 20.0
_WORDS = {
    DONE: "every run has finished",
    FAILED: "some runs failed, look at the log",
    USAGE: "something was refused, a person must correct it",
    BUG: "a bug of ray_darts ended it",
    STORE_GIVEN_UP: "the store does not answer; the same command continues",
    SUPERSEDED: "a newer command holds the runs",
    BUDGET_SPENT: "the budget is spent; the same command continues once it is raised",
    INTERRUPTED: "stopped; the same command continues",
}


class EndNotification:
    """What is known of a command; the caller adds what it learns before it ends."""

    def __init__(self, experiment: str, store: str) -> None:
        self.experiment = experiment
        self.store = store
        self.exit_code: int | None = None
        self.best: dict[str, object] | None = None
        self.report: str | None = None
        self.runs: dict[str, int] = {}

    def to_data(self, exit_code: int) -> dict[str, object]:
        """The JSON that is posted."""
        best = "no best cell yet" if self.best is None else f"best {self.best['run']}, {self.best['metric']}"
        state = _WORDS.get(exit_code, "ended")
        return {
            "schema_version": 1,
            "ray_darts": __version__,
            "text": f"{self.experiment}: {state}; {best}",
            "experiment": self.experiment,
            "state": "done" if exit_code == DONE else "needs attention",
            "exit_code": exit_code,
            "meaning": state,
            "runs": self.runs,
            "best": self.best,
            "links": {"results": f"{self.store.rstrip('/')}/{self.experiment}/", "report": self.report},
        }


def check_url(url: str | None) -> None:
    """Raise ConfigError unless the URL is https, or http to this machine, and holds no credentials before its host."""
    if url is None:
        return
    shown = "--on-end URL"  # which may hold a token
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{shown}: no URL: {error}") from error
    if not host or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{shown}: wanted a URL such as https://host/hook")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ConfigError(f"{shown}: wanted https, or http to this machine")
    if "%" in parts.netloc:
        raise ConfigError(f"{shown}: wanted a host without %")
    if "@" in parts.netloc:
        raise ConfigError(f"{shown}: credentials before the host are not sent, put a token into the path")


@contextlib.contextmanager
def notifying(url: str | None, experiment: str, store: str) -> Iterator[EndNotification]:
    """Post when the block has ended, however it does; the exit code of an error is that of the command."""
    notification = EndNotification(experiment, store)
    code = BUG
    try:
        yield notification
        code = DONE if notification.exit_code is None else notification.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
        raise
    except RayDartsError as error:
        code = exit_code_of_error(error)
        raise
    finally:
        if url is not None:
            posting = threading.Thread(target=_post, args=(url, notification.to_data(code)), daemon=True)
            posting.start()
            posting.join(_PATIENCE_S)
            if posting.is_alive():
                report_line(f"warning: the notification of the end was not taken: no answer in {_PATIENCE_S:.0f} s")


def _post(url: str, data: Mapping[str, object]) -> None:
    """Post and report what went wrong; the URL may hold a token, so it is not printed."""
    handlers: list[Any] = [_NoRedirects]
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # this machine is not reached through another
    try:
        body = json.dumps(data, allow_nan=False).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json", "User-Agent": "ray-darts"})
        with urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT_S) as reply:
            reply.read(1024)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        report_line(f"warning: the notification of the end was not taken: {code}{shown_message(str(reason))}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead to another host, or from https to http."""

    def redirect_request(self, *_: object) -> None:
        return None
