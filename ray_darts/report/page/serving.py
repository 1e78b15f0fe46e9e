"""Serves a page and the JSON behind it over HTTP, made again when it is asked for and old.

Binds to a loopback address, or to another one with a token that every request must have. Reads the store, nothing else.
"""

from __future__ import annotations

import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

from ray_darts.errors import ConfigError, RayDartsError, StoreError
from ray_darts.hosts import is_loopback
from ray_darts.messages import shown_message
from ray_darts.report.page.making import Page

logger = logging.getLogger("ray_darts.report")

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class _Reply(NamedTuple):
    status: HTTPStatus
    kind: str
    body: bytes
    tag: str | None = None


class _IPv6Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class PageServer:
    """A server of one page. `make`: makes it; `every_s`: a page older than this is made again for the next request."""

    def __init__(self, make: Callable[[], Page], host: str, port: int, token: str | None, every_s: float) -> None:
        if token == "":
            raise ConfigError("--token is empty (an unset variable?): leave it out, or give one")
        if not is_loopback(host) and token is None:
            raise ConfigError(f"--host {host}: an address that others reach needs a token")
        self._make = make
        self._token = token
        self._every_s = every_s
        self._lock = threading.Lock()
        self._page: Page | None = None
        self._made_at = 0.0
        self._only_local = is_loopback(host)
        try:
            kind = _IPv6Server if ":" in host else ThreadingHTTPServer
            self._server = kind((host, port), self._handler())
        except (OSError, OverflowError) as error:
            raise ConfigError(f"cannot serve on {host} port {port}: {error}; name another --port") from error
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        host, port = self._server.server_address[:2]
        name = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{name}:{port}/" + (f"?token={quote(self._token, safe='')}" if self._token else "")

    def serve(self) -> None:
        """Answer until `stop`, or KeyboardInterrupt."""
        try:
            self._server.serve_forever()
        finally:
            self._server.server_close()

    def stop(self) -> None:
        """End `serve`, from another thread."""
        self._server.shutdown()

    def _current(self) -> Page:
        with self._lock:
            if self._page is None or time.monotonic() - self._made_at > self._every_s:
                try:
                    self._page = self._make()
                except StoreError as error:
                    if self._page is None:
                        raise
                    logger.warning("the page is not made again: %s", error)
                self._made_at = time.monotonic()
            return self._page

    def _allowed(self, query: str, authorization: str, host: str) -> bool:
        """Whether a request may be answered: it has the token; without one, it names this machine as its host, which
        a page of another site cannot make a browser do."""
        if self._token is not None:
            given = parse_qs(query).get("token", [""])[0] or authorization.removeprefix("Bearer ")
            return hmac.compare_digest(given.encode(), self._token.encode())
        return not self._only_local or is_loopback(host)

    def _answer(self, target: str, authorization: str, host: str) -> _Reply:
        try:
            parts = urlsplit(target)
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return _Reply(HTTPStatus.BAD_REQUEST, "text/plain", b"no address\n")
        try:
            if not self._allowed(parts.query, authorization, name):
                return _Reply(HTTPStatus.FORBIDDEN, "text/plain", b"the token is missing or wrong\n")
            if parts.path not in ("/", "/report.html", "/report.json"):
                return _Reply(HTTPStatus.NOT_FOUND, "text/plain", b"there are / and /report.json\n")
            page = self._current()
        except RayDartsError as error:
            return _Reply(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{shown_message(str(error))}\n".encode())
        if parts.path == "/report.json":
            body = json.dumps(page.data, allow_nan=False, sort_keys=True).encode()
            return _Reply(HTTPStatus.OK, "application/json", body, page.tag)
        return _Reply(HTTPStatus.OK, "text/html; charset=utf-8", page.html.encode(), page.tag)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            timeout = 30

            def do_GET(self) -> None:
                self._reply(with_body=True)

            def do_HEAD(self) -> None:
                self._reply(with_body=False)

            def _reply(self, *, with_body: bool) -> None:
                given = answer(self.path, self.headers.get("Authorization", ""), self.headers.get("Host", ""))
                self.send_response(given.status)
                headers = {"Content-Type": given.kind, "Content-Length": str(len(given.body)), **_HEADERS}
                if given.tag is not None:
                    headers["ETag"] = f'"{given.tag}"'
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if with_body:
                    self.wfile.write(given.body)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are not logged: their addresses hold the token."""

        return Handler
