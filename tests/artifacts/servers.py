"""Real servers for the tests, on free ports of 127.0.0.1, ended by their own process ids."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.files import CLUSTER, load_script

free_port = load_script(CLUSTER / "local" / "ports.py").free_port

_START_S = 30.0


@contextlib.contextmanager
def running(command: list[str], log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; what it prints goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def serving(
    command: list[str], port: int, log: Path, env: dict[str, str] | None = None, start_s: float = _START_S
) -> Iterator[int]:
    """Run a server until the block ends; yields its process id once the port answers."""
    with running(command, log, env) as process:
        _wait(process, port, log, start_s)
        yield process.pid


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, start_s: float) -> None:
    deadline = time.monotonic() + start_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on {port}:\n{log.read_text(errors='replace')[-2000:]}")


def program(name: str) -> str:
    """The full path of a console script of this environment."""
    return str(Path(sys.executable).with_name(name))


@contextlib.contextmanager
def ministack(folder: Path, services: str = "s3") -> Iterator[str]:
    """An S3 server that checks hashes and signatures; yields its URL. Every other listener of it is off."""
    port = free_port()
    env = {
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": services,
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    with serving([program("ministack")], port, folder / f"ministack-{port}.log", env):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[str]:
    """A server that knows expired tokens, from its fourth request on; yields its URL."""
    port = free_port()
    command = [program("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with serving(command, port, folder / f"moto-{port}.log", {"INITIAL_NO_AUTH_ACTION_COUNT": "3"}):
        yield f"http://127.0.0.1:{port}"
