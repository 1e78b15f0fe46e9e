"""A small hub of data sets on 127.0.0.1 with the requests of huggingface_hub that reading files takes."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

_COMMIT = "0" * 40


@contextlib.contextmanager
def serving_hub(folder: Path, repository: str) -> Iterator[str]:
    """Serve the files below `folder` as the data set `repository`; yields the URL."""

    class Handler(_Handler):
        root, name = folder, repository

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    root: Path
    name: str
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        about = f"/api/datasets/{self.name}"
        if path in (about, f"{about}/revision/main"):
            self._json({"id": self.name, "sha": _COMMIT, "private": False, "tags": [], "downloads": 0, "likes": 0})
        elif found := re.fullmatch(rf"{about}/tree/main/?(.*)", path):
            self._json([self._entry(file) for file in sorted((self.root / found[1]).rglob("*"))])
        elif found := re.fullmatch(rf"/datasets/{self.name}/resolve/main/(.+)", path):
            self._content((self.root / found[1]).read_bytes())
        else:
            self._send(404, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        wanted = [self.root / path for path in json.loads(body)["paths"]]
        self._json([self._entry(file) for file in wanted if file.exists()])

    def _entry(self, file: Path) -> dict[str, object]:
        below = str(file.relative_to(self.root))
        if file.is_dir():
            return {"type": "directory", "path": below, "oid": _COMMIT}
        return {"type": "file", "path": below, "oid": _COMMIT, "size": file.stat().st_size}

    def _content(self, content: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if found is None:
            self._send(200, content)
        else:
            self._send(206, content[int(found[1]) : int(found[2]) + 1])

    def _json(self, answer: object) -> None:
        self._send(200, json.dumps(answer).encode())

    def _send(self, status: int, content: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
