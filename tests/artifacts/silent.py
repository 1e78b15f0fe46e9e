"""A listener before an S3 server that can fall silent: it accepts connections, and no answer ever comes on them.

A connection that was open or made during the silence stays silent for ever, as it does when a server is replaced.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class SilentServer:
    """Passes bytes to and from `target`; `silence` and `speak` may be called at any time; counts connections."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._silent = threading.Event()
        self._open: list[socket.socket] = []
        self.unanswered = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        """From now on nothing is answered."""
        self._silent.set()

    def speak(self) -> None:
        """New connections are answered again."""
        self._silent.clear()

    def close(self) -> None:
        """Close everything."""
        for each in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            if self._silent.is_set():
                self.unanswered += 1
                continue
            server = socket.create_connection(self._target)
            self._open.append(server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self._silent.is_set():
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def silent_server(target: str) -> Iterator[SilentServer]:
    """A listener that answers until it is silenced."""
    server = SilentServer(target)
    try:
        yield server
    finally:
        server.close()
