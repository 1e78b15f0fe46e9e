"""A relay between client and S3 server that loses replies: the request is carried out, its answer never arrives.

Nothing else can make a put land and fail at once. It can also answer in the server's place: 403 for a missing key, as
S3 does without s3:ListBucket, or an expired token.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Loses = Callable[[str, str], bool]

Replaces = Callable[[str, int], tuple[int, str] | None]
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


class Relay:
    """Forwards to `target`.

    `loses(method, path)` says of each request whether its reply is dropped, `replaces(method, status)` what status and
    error code are sent instead of the server's answer.
    """

    def __init__(self, target: str, replaces: Replaces) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        self.target = (parts.hostname, parts.port)
        self.replaces = replaces
        self.loses: Loses = lambda method, path: False
        self.lost: list[str] = []
        self.requests: list[str] = []
        self._lock = threading.Lock()

    def lose_once(self, method: str, fragment: str) -> None:
        """Drop the reply of the next request of this method whose path holds `fragment`."""
        left = [1]

        def loses(seen: str, path: str) -> bool:
            if seen != method or fragment not in path or not left:
                return False
            left.clear()
            return True

        self.loses = loses

    def enter(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """Before a request is forwarded: may change its headers, or return the status and code to answer with."""
        return None

    def leave(self, method: str, path: str, status: int) -> tuple[int, str] | None:
        """After the server's answer: what is sent instead of it, if anything."""
        return self.replaces(method, status)

    def header(self, name: str, value: str) -> str:
        """The value that is sent for a header of the server's answer."""
        return value

    def settle(self, method: str, path: str) -> bool:
        """Note a request; whether its reply is to be lost."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            lost = self.loses(method, path)
            if lost:
                self.lost.append(f"{method} {path}")
            return lost


def nothing(method: str, status: int) -> None:
    """Replace no answer."""


def hide_missing(method: str, status: int) -> tuple[int, str] | None:
    """403 for a missing key."""
    return (403, "AccessDenied") if status == 404 and method in ("GET", "HEAD") else None


@contextlib.contextmanager
def relaying(target: str, replaces: Replaces = nothing, kind: type[Relay] = Relay) -> Iterator[tuple[Relay, str]]:
    """Run a relay; yields it and its URL."""
    relay = kind(target, replaces)

    class Handler(_Handler):
        owner = relay

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield relay, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _refusal(status: int, code: str) -> tuple[int, bytes]:
    """An answer of S3's form, without a message, which some servers do not give."""
    return status, f"<Error><Code>{code}</Code><Message/></Error>".encode()


class _Handler(BaseHTTPRequestHandler):
    owner: Relay
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("expect", "connection")}
        replaced = self.owner.enter(self.command, self.path, headers)
        if replaced is not None:
            self.owner.settle(self.command, self.path)
            self._send(*_refusal(*replaced))
            return
        upstream = http.client.HTTPConnection(*self.owner.target, timeout=30)
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        replaced = self.owner.leave(self.command, self.path, answer.status)
        if self.owner.settle(self.command, self.path):
            self.close_connection = True
            return
        status = answer.status
        if replaced is not None:
            status, data = _refusal(*replaced)
        kept = [pair for pair in answer.getheaders() if pair[0].lower() not in _HOP_BY_HOP | {"content-length"}]
        self._send(status, data, kept, answer.getheader("Content-Length", "0"))

    def _send(self, status: int, data: bytes, headers: Iterable[tuple[str, str]] = (), length: str = "0") -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, self.owner.header(name, value))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _forward

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests read `requests`."""
