"""`--on-end`: one JSON at a real server when a command ends, however it does; what goes wrong is a line on stderr."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ray_darts.cli.notification import check_url, notifying
from ray_darts.errors import ConfigError, StoreUnavailable
from tests.cli.running import ray_darts


class Hook:
    """A webhook: what was posted, as (path, content type, JSON)."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, str, Any]] = []
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.posted.append((self.path, self.headers["Content-Type"], json.loads(body)))
                self.send_response(hook.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?token=secret"


@contextmanager
def listening() -> Iterator[Hook]:
    hook = Hook()
    thread = threading.Thread(target=hook.server.serve_forever)
    thread.start()
    try:
        yield hook
    finally:
        hook.server.shutdown()
        thread.join()
        hook.server.server_close()


def test_the_end_and_the_best_are_posted_once() -> None:
    with listening() as hook:
        with notifying(hook.url, "mine", "s3://bucket/prefix/") as notification:
            notification.exit_code = 0
            notification.runs = {"finished": 4}
            notification.best = {"run": "first-order-seed-0", "metric": "accuracy 0.9", "genotype": {}, "warning": None}
            notification.report = "s3://bucket/prefix/mine/report.html"
        ((path, kind, data),) = hook.posted
    assert (path, kind) == ("/hook?token=secret", "application/json")
    assert data["text"] == "mine: every run has finished; best first-order-seed-0, accuracy 0.9"
    assert (data["state"], data["exit_code"], data["runs"]) == ("done", 0, {"finished": 4})
    assert data["links"] == {
        "results": "s3://bucket/prefix/mine/",
        "report": "s3://bucket/prefix/mine/report.html",
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [(StoreUnavailable("the key is secret"), 75), (KeyboardInterrupt(), 130), (ConfigError("secret"), 2)],
)
def test_an_error_is_posted_by_its_code_alone(error: BaseException, code: int) -> None:
    with listening() as hook:
        with pytest.raises(type(error)), notifying(hook.url, "mine", "/store"):
            raise error
        ((_, _, data),) = hook.posted
    assert (data["exit_code"], data["state"]) == (code, "needs attention")
    assert "secret" not in json.dumps(data)


@pytest.mark.parametrize("status", [500, 404, 302, 307])
def test_a_refusal_is_a_line_that_holds_no_token_and_is_not_followed(
    status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening() as hook:
        hook.status = status
        with notifying(hook.url, "mine", "/store"):
            pass
        assert len(hook.posted) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"warning: the notification of the end was not taken: {status} ")
    assert "secret" not in said


def test_a_bug_is_posted_as_one() -> None:
    with listening() as hook:
        with pytest.raises(TypeError), notifying(hook.url, "mine", "/store"):
            raise TypeError("secret")
        ((_, _, data),) = hook.posted
    assert data["exit_code"] == 70


def test_this_machine_is_not_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with listening() as hook:
        with notifying(hook.url, "mine", "/store"):
            pass
        assert len(hook.posted) == 1


def test_a_server_that_never_ends_its_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ray_darts.cli.notification._PATIENCE_S", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, notifying(f"http://127.0.0.1:{listener.getsockname()[1]}/", "mine", "/store"):
        pass
    assert "no answer in 0 s" in capsys.readouterr().err


def test_nobody_who_listens_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with listening() as hook:
        url = hook.url
    with notifying(url, "mine", "/store"):
        pass
    assert "Connection refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "phrase"),
    [
        ("http://example.org/hook", "wanted https, or http to this machine"),
        ("ftp://127.0.0.1/hook", "wanted https"),
        ("file:///etc/passwd", "wanted a URL"),
        ("https://me:secret@example.org/", "credentials before the host"),
        ("http://127.0.0.1%2eevil.example/hook", "wanted"),
        ("https://", "wanted a URL"),
        ("", "wanted a URL"),
        ("https://host:port/", "no URL"),
        ("https://host/\r\nX: y", "wanted a URL"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_done(url: str, phrase: str, tmp_path: Path) -> None:
    ran = ray_darts("search", "--preset", "digits", "--on-end", url, "--store", str(tmp_path / "store"))
    assert ran.code == 2
    assert phrase in ran.stderr
    assert "secret" not in ran.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("url", ["https://host/hook", "http://localhost:1/", "http://[::1]/x", "http://127.1/x", None])
def test_addresses_that_are_taken(url: str | None) -> None:
    check_url(url)
