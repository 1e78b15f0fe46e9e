"""Which cluster a command connects to, and how soon it reports that none answers; real sockets and a real Ray."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
import ray

from ray_darts.errors import ClusterError
from ray_darts.orchestration import connection, head
from ray_darts.orchestration.connection import named_cluster, ray_connection
from ray_darts.orchestration.head import ANSWER_TIMEOUT_S, check_head
from ray_darts.orchestration.ray_internals import SOCKET_PATH
from tests.cli.running import ROOT
from tests.orchestration.sockets import full_backlog, listening, other_grpc_server

BOUND_S = 10.0

CONNECT = """
from ray_darts.orchestration.connection import ray_connection
from ray_darts.orchestration.ray_internals import own_session_folder
if __name__ == "__main__":
    with ray_connection(None) as connection:
        print(connection.is_own, own_session_folder().parent)
"""


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (partial(listening, None), "was accepted, but nothing answered within 0.3 s"),
        (partial(listening, HTTP), "something other than a Ray head listens there"),
        (partial(listening, bytes(range(256))), "something other than a Ray head listens there"),
        (other_grpc_server, "something other than a Ray head listens there"),
        (full_backlog, "was not accepted within 0.3 s"),
    ],
    ids=["silent", "http", "garbage", "grpc", "full backlog"],
)
def test_an_address_where_no_head_answers_is_reported_in_time_with_what_to_check(
    scheme: str, server: Callable[[], AbstractContextManager[str]], reason: str
) -> None:
    began = time.monotonic()
    with server() as address, pytest.raises(ClusterError) as refused:
        check_head(scheme + address, timeout_s=0.6)
    assert time.monotonic() - began < BOUND_S
    assert f"no Ray cluster answers at {scheme}{address}: " in str(refused.value)
    assert reason in str(refused.value)
    assert "--address or RAY_ADDRESS" in str(refused.value)


def test_every_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with full_backlog() as silent, listening(None) as accepting:
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", int(address.rpartition(":")[2])))
            for address in (silent, accepting)
        ]
        monkeypatch.setattr("socket.getaddrinfo", lambda *arguments, **named: found)
        head._connect("head.example", 6379, time.monotonic() + 2)
        monkeypatch.setattr("socket.getaddrinfo", lambda *arguments, **named: found[:1])
        with pytest.raises(TimeoutError):
            head._connect("head.example", 6379, time.monotonic() + 0.3)


def test_the_time_until_a_missing_head_is_reported_is_below_15_s() -> None:
    assert ANSWER_TIMEOUT_S < 15


def test_a_connection_to_a_head_that_never_answers_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    began = time.monotonic()
    reported = pytest.raises(ClusterError, match="the connection was accepted, but nothing")
    with listening(None) as address, reported, ray_connection(address):
        pass
    assert time.monotonic() - began < 15 + BOUND_S, "Ray itself waits for more than 200 s"


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"'head' is no address of a Ray cluster: give host:port"):
        check_head("head")


def test_the_head_of_a_running_cluster_answers(ray_cluster: None) -> None:
    address = ray.get_runtime_context().gcs_address
    check_head(address)
    check_head(f"127.0.0.1:{address.rpartition(':')[2]}")


@pytest.mark.parametrize("name", ["local", ""])
def test_local_names_no_cluster(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", name)
    assert named_cluster(None) is None
    assert named_cluster("10.0.0.5:6379") == "10.0.0.5:6379"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder in which the path of a socket is short enough."""
    with tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def connect(**environment: str) -> subprocess.CompletedProcess[str]:
    """Connect in a fresh process, as a command does."""
    names = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-c", CONNECT],
        env={**names, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_command_that_names_no_cluster_starts_its_own_whatever_a_crashed_one_left(short_folder: Path) -> None:
    left = short_folder / "ray" / "ray_current_cluster"
    left.parent.mkdir()
    left.write_text("127.0.0.1:1")
    ran = connect(RAY_TMPDIR=str(short_folder))
    assert ran.stdout == f"True {left.parent}\n", ran.stderr


def test_a_temporary_folder_too_deep_for_a_socket_is_replaced_by_a_short_one(
    tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))
    assert connection._temporary_folder() is None
    assert caplog.messages == []
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("deep" * 20)))
    assert connection._temporary_folder() == "/tmp/ray"
    assert "would be too long" in caplog.text


def test_the_longest_socket_path_is_at_least_as_long_as_those_that_ray_makes(ray_cluster: None) -> None:
    session = Path(ray.get_runtime_context().worker.node.get_session_dir_path())
    sockets = [f"/{file.relative_to(session.parent)}" for file in (session / "sockets").iterdir()]
    assert sockets
    assert max(map(len, sockets)) <= len(SOCKET_PATH)
