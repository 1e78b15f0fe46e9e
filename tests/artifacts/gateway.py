"""An S3 server that treats conditions as Ceph RGW and DigitalOcean Spaces do: a relay before the test server.

If-Match is compared with the ETag without quotes, so a quoted one is always 412; a swap of an absent key is 412; every
other writer that loses a race against an overlapping put is answered 500. Conditions are decided by the test server.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from tests.artifacts.relay import Relay, Replaces, nothing, relaying


class Gateway(Relay):
    """Counts in `races_lost` the writers that lost against an overlapping put; every other one is answered 500."""

    def __init__(self, target: str, replaces: Replaces) -> None:
        super().__init__(target, replaces)
        self.races_lost = 0
        self._puts: Counter[str] = Counter()
        self._raced: set[str] = set()

    def enter(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """Refuse a quoted tag; send a bare one on as the test server wants it."""
        name = next((name for name in headers if name.lower() == "if-match"), None)
        if name is not None:
            if '"' in headers[name]:
                return 412, "PreconditionFailed"
            headers[name] = f'"{headers[name]}"'
        if method == "PUT":
            with self._lock:
                self._puts[path] += 1
                if self._puts[path] > 1:
                    self._raced.add(path)
        return None

    def leave(self, method: str, path: str, status: int) -> tuple[int, str] | None:
        """412 for a swap of an absent key, and 500 for every other lost race."""
        if method != "PUT":
            return super().leave(method, path, status)
        with self._lock:
            raced = path in self._raced
            self._puts[path] -= 1
            if not self._puts[path]:
                self._raced.discard(path)
            if status == 412 and raced:
                self.races_lost += 1
                return (500, "UnknownError") if self.races_lost % 2 else None
        return (412, "PreconditionFailed") if status == 404 else super().leave(method, path, status)


class Refusing(Gateway):
    """Refuses every swap."""

    def enter(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """412 for each If-Match."""
        return (412, "PreconditionFailed") if "If-Match" in headers else None


@contextlib.contextmanager
def gateway(target: str, kind: type[Gateway] = Gateway) -> Iterator[tuple[Relay, str]]:
    """Run a gateway before the server at `target`; yields it and its URL."""
    with relaying(target, nothing, kind) as both:
        yield both
