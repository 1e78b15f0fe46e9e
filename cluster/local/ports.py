"""Ports for servers of this machine, from outside the range that outgoing connections take theirs from."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SERVERS = range(20_000, 65_536)


def free_port(address: str = "127.0.0.1") -> int:
    """A port of `address` that nobody listens on now, and that no connection is given until a server takes it.

    A port that the kernel chose may be the near end of somebody's connection a moment later. Raises: OSError.
    """
    low, high = _given_to_connections()
    candidates = [port for port in _SERVERS if not low <= port <= high] or list(_SERVERS)
    for port in random.SystemRandom().sample(candidates, 100):
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port of {address} in 100 tried")


def _given_to_connections() -> tuple[int, int]:
    """The kernel's range, both ends included; that of most systems where it is not Linux."""
    try:
        low, high = _RANGE.read_text(encoding="ascii").split()
    except OSError:
        return 32_768, 65_535
    return int(low), int(high)
