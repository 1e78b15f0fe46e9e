"""A local server that plays the instance metadata service, version 2: a token first, then the interruption notice."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from uuid import uuid4


class MetadataServer:
    """Serves on a free port of loopback within the block."""

    def __init__(self) -> None:
        self.notice: str | None = None
        self.tokens: set[str] = set()
        self.tokens_given = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def take_away(self, at: float) -> None:
        """From now on there is a notice for this UNIX time."""
        when = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.notice = json.dumps({"action": "terminate", "time": when})

    def forget_tokens(self) -> None:
        """Every token given so far is refused."""
        self.tokens.clear()

    def __enter__(self) -> MetadataServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(outer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                wanted = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
                if not wanted:
                    self._answer(400, "")
                    return
                token = uuid4().hex
                outer.tokens.add(token)
                outer.tokens_given += 1
                self._answer(200, token)

            def do_GET(self) -> None:
                if self.headers["X-aws-ec2-metadata-token"] not in outer.tokens:
                    self._answer(401, "")
                elif self.path == "/latest/meta-data/spot/instance-action" and outer.notice is not None:
                    self._answer(200, outer.notice)
                else:
                    self._answer(404, "")

            def _answer(self, code: int, text: str) -> None:
                self.send_response(code)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *values: object) -> None:
                """Log nothing."""

        return Handler
