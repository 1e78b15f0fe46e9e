"""A copy of this checkout with private files in it, and a job server that keeps what is uploaded."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import ray

from tests.cluster.files import ROOT

CANARY = b"AWS_SECRET_ACCESS_KEY=canary-4f1d"

SECRETS = (
    ".env",
    "credentials.json",
    "data/train.bin",
    "notes/plan.py",
    "jobs/.env",
    "jobs/service.pem",
    "ray_darts/.env",
    "ray_darts/spaces/.cache/key.py",
)


def copied_checkout(target: Path) -> Path:
    """What a checkout has of the files that matter to a submission."""
    for name in ("ray_darts", "jobs", "tests/jobs"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in (".gitignore", ".rayignore", "README.md", "pyproject.toml"):
        shutil.copyfile(ROOT / name, target / name)
    return target


def plant_secrets(checkout: Path) -> None:
    """Put a file with the canary at each place of SECRETS."""
    for name in SECRETS:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes(CANARY)


class JobServer(ThreadingHTTPServer):
    """Answers as Ray's job server as far as a submission goes; `archives` are the uploads, `jobs` the submissions."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.archives: list[bytes] = []
        self.jobs: list[dict[str, object]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def sent(self) -> dict[str, bytes]:
        """{path: content} of the only upload."""
        [archive] = self.archives
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}


class _Answers(BaseHTTPRequestHandler):
    server: JobServer

    def do_GET(self) -> None:
        if self.path.startswith("/api/packages/"):
            self._answer(404, {})
        else:
            self._answer(200, {"version": "4", "ray_version": ray.__version__, "ray_commit": ray.__commit__})

    def do_PUT(self) -> None:
        self.server.archives.append(self._body())
        self._answer(200, {})

    def do_POST(self) -> None:
        self.server.jobs.append(json.loads(self._body()))
        self._answer(200, {"job_id": "raysubmit_1", "submission_id": "raysubmit_1"})

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, status: int, document: dict[str, str]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def job_server() -> Iterator[JobServer]:
    """A job server on a free port while the block runs."""
    with JobServer() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
