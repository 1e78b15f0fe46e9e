"""Servers on loopback that are not what a client expects."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """A server that accepts everything and sends `answer` once it has read something; None never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            accepted.append(connection)
            if answer is not None:
                connection.recv(64)
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for connection in accepted:
        connection.close()


@contextmanager
def full_backlog() -> Iterator[str]:
    """A listening socket that accepts nothing and whose queue is full: the system drops further SYN packets."""
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(4)]
    for client in waiting:
        client.setblocking(False)
        client.connect_ex(server.getsockname())
    time.sleep(0.1)
    yield f"127.0.0.1:{server.getsockname()[1]}"
    for each in (*waiting, server):
        each.close()


@contextmanager
def other_grpc_server() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
