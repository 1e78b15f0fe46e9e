"""Starts the process group of a worker group, over the network interface that Ray uses, without PyTorch in the
trial.

Ray's own backend imports PyTorch wherever it is named: in the trial, too, which computes nothing. Here only the workers
import it. gloo advertises the address of the host's name; where that is 127.0.1.1 (Debian's default), or one of another
network, ranks on other machines cannot connect. NCCL finds its interface itself.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from dataclasses import dataclass

import ray

from ray_darts.orchestration.ray_internals import (
    Backend,
    BackendConfig,
    BaseWorkerGroup,
    get_address_and_port,
    join_process_group,
    leave_process_group,
    own_device,
    set_rank_variables,
)
from ray_darts.orchestration.resources import own_address

_SIOCGIFADDR = 0x8915
_VARIABLE = "GLOO_SOCKET_IFNAME"
_LEAVE_S = 30.0


class ProcessGroupBackend(Backend):
    """Called by Ray Train's controller; what it executes runs on the workers."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: BaseWorkerGroup, backend_config: BackendConfig) -> None:
        """Choose gloo's interface on every worker, and start the process group."""
        assert isinstance(backend_config, ProcessGroupConfig)
        worker_group.execute(choose_interface)
        address, port = worker_group.execute_single(0, get_address_and_port)
        worker_group.execute(set_master, address, port)
        worker_group.execute(set_rank_variables)
        backend = "nccl" if worker_group.get_resources_per_worker().get("GPU", 0) > 0 else "gloo"
        size, timeout_s = len(worker_group), backend_config.timeout_s
        joined = [
            worker_group.execute_single_async(rank, join_process_group, backend, rank, size, timeout_s)
            for rank in range(size)
        ]
        ray.get(joined)  # type: ignore[arg-type]

    def on_shutdown(self, worker_group: BaseWorkerGroup, backend_config: BackendConfig) -> None:
        """End the process group, as far as its ranks still answer."""
        left = worker_group.execute_async(leave_process_group)
        ray.wait(left, num_returns=len(left), timeout=_LEAVE_S)  # type: ignore[arg-type]


@dataclass
class ProcessGroupConfig(BackendConfig):
    """Of a run's process group. `timeout_s`: of one collective."""

    timeout_s: int

    @property
    def backend_cls(self) -> type[ProcessGroupBackend]:
        """The class that Ray Train makes the backend of."""
        return ProcessGroupBackend

    @property
    def train_func_context(self) -> type[own_device]:
        """The context in which a worker calls the train function: its own GPU, where it has one."""
        return own_device


def set_master(address: str, port: int) -> None:
    """Say in this process where rank 0 is."""
    os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}


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
