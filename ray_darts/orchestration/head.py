"""Whether a Ray head answers at an address, known after a few seconds. Ray's own connection waits for minutes."""

from __future__ import annotations

import socket
import time

import grpc

from ray_darts.errors import ClusterError
from ray_darts.orchestration.ray_internals import CHECK_CLIENT_SERVER, CHECK_HEAD, create_gcs_channel
from ray_darts.orchestration.resources import own_address

ANSWER_TIMEOUT_S = 12.0

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_OTHER_THAN_RAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED)


def check_head(target: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
    """Call the head at `host:port`, or the server of Ray's client at `ray://host:port`, for `timeout_s` at most.

    For a loopback address Ray connects to the node's own address, so either may answer. Raises: ClusterError.
    """
    scheme, _, address = target.rpartition("://")
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise ClusterError(f"{target!r} is no address of a Ray cluster: give host:port, such as 10.0.0.5:6379, or auto")
    hosts = list(dict.fromkeys([host, own_address()])) if host in _LOOPBACK else [host]
    failures = []
    for candidate in hosts:
        failure = _failure(candidate, int(port), bool(scheme), timeout_s / len(hosts))
        if failure is None:
            return
        failures.append(failure)
    raise ClusterError(
        f"no Ray cluster answers at {target}: {failures[0]}. Check that --address or RAY_ADDRESS names the host and "
        "port of a running Ray head (port 6379 unless it was set), and that this machine may reach that port",
        address=target,
    )


def _connect(host: str, port: int, deadline: float) -> None:
    """Open a connection to one of the addresses of `host` and close it; each has a share of the time.

    Raises: OSError, of the first address, where none accepts; TimeoutError where that one did not answer.
    """
    failure: OSError | None = None
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for number, (family, kind, protocol, _, address) in enumerate(found):
        share_s = (deadline - time.monotonic()) / (len(found) - number)
        try:
            with socket.socket(family, kind, protocol) as connection:
                connection.settimeout(max(0.1, share_s))
                connection.connect(address)
            return
        except OSError as error:
            failure = failure or error
    raise failure or OSError(f"{host} has no address")


def _failure(host: str, port: int, is_client_server: bool, timeout_s: float) -> str | None:
    """Why no head answers there; None where one does."""
    deadline = time.monotonic() + timeout_s
    try:
        _connect(host.strip("[]"), port, deadline)
    except TimeoutError:
        return f"the connection was not accepted within {timeout_s:g} s"
    except OSError as error:
        return f"the connection failed ({error.strerror or error})"
    channel = create_gcs_channel(f"{host}:{port}")
    try:
        method = channel.unary_unary(CHECK_CLIENT_SERVER if is_client_server else CHECK_HEAD)
        method(b"", timeout=max(0.1, deadline - time.monotonic()))
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"the connection was accepted, but nothing answered within {timeout_s:g} s"
        if error.code() in _OTHER_THAN_RAY:
            return f"something other than a Ray head listens there ({error.details()})"
    finally:
        channel.close()
    return None
