"""Sets gloo's network interface to the one that Ray uses, before Ray Train starts the process group.

gloo advertises the address of the host's name; where that is 127.0.1.1 (Debian's default), or one of another network,
ranks on other machines cannot connect. NCCL finds its interface itself.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from ray_darts.orchestration.ray_internals import BaseWorkerGroup, TorchBackend, TorchConfig
from ray_darts.orchestration.resources import own_address

_SIOCGIFADDR = 0x8915
_VARIABLE = "GLOO_SOCKET_IFNAME"


class NamedInterfaceBackend(TorchBackend):
    """Chooses gloo's interface on every worker before the process group starts."""

    def on_start(self, worker_group: BaseWorkerGroup, backend_config: TorchConfig) -> None:  # type: ignore[override]
        """Called by Ray Train on its controller."""
        worker_group.execute(choose_interface)
        super().on_start(worker_group, backend_config)


class ProcessGroupConfig(TorchConfig):
    """A TorchConfig with `NamedInterfaceBackend`."""

    @property
    def backend_cls(self) -> type[NamedInterfaceBackend]:
        """The class that Ray Train makes the backend of."""
        return NamedInterfaceBackend


def choose_interface() -> None:
    """Set GLOO_SOCKET_IFNAME in this process where gloo's own choice would be another address than the node's."""
    if _VARIABLE in os.environ:
        return
    name = interface_for(own_address(), resolved(socket.gethostname()))
    if name is not None:
        os.environ[_VARIABLE] = name


def resolved(host: str) -> str | None:
    """The IPv4 address of a host's name, None when it has none."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return None


def interface_for(node_address: str, host_address: str | None) -> str | None:
    """The interface that has `node_address`; None where gloo's own choice (`host_address`) is the same."""
    if host_address == node_address:
        return None
    return next((name for _, name in socket.if_nameindex() if _address(name) == node_address), None)


def _address(interface: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])
