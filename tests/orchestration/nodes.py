"""Ray nodes as processes that a test can end or cut off, each with an id that the test chose.

On loopback, or each in a network namespace with an address of its own behind one bridge (needs root). Only processes
that were started here are ended, by process group or by namespace.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from ray._raylet import GcsClient  # type: ignore[attr-defined]

from tests.artifacts.servers import free_port

_UP_S = 120.0
QUICK_HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}


@dataclass
class Node:
    """A `ray start --block`; `node_id` is 56 hex digits."""

    node_id: str
    process: subprocess.Popen[bytes]
    namespace: str | None = None


class Nodes:
    """A head without CPUs, and whatever nodes are added, within the block."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self._folder, self._address = folder, address
        self._sockets = Path(tempfile.mkdtemp(prefix="rd"))  # a socket's path has at most 107 bytes
        self.gcs = f"{address}:{free_port(address)}"
        self._nodes: list[Node] = []

    def __enter__(self) -> Nodes:
        try:
            port = self.gcs.rpartition(":")[2]
            self._start(
                ["--head", "--port", port, "--num-cpus", "0", "--include-dashboard", "false"],
                self._address,
                prefix=[],
                namespace=None,
            )
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        for node in reversed(self._nodes):
            self.kill(node)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def add(self, address: str | None = None, namespace: str | None = None) -> Node:
        """One more node of one CPU; returns when the head counts it as alive."""
        prefix = [] if namespace is None else ["ip", "netns", "exec", namespace]
        return self._start(["--address", self.gcs, "--num-cpus", "1"], address or self._address, prefix, namespace)

    def kill(self, node: Node) -> None:
        """SIGKILL to all of its processes."""
        if node.process.poll() is None:
            os.killpg(node.process.pid, signal.SIGKILL)
        if node.namespace is not None:
            answer = subprocess.run(
                ["ip", "netns", "pids", node.namespace], capture_output=True, text=True, check=False
            )
            for pid in answer.stdout.split():
                os.kill(int(pid), signal.SIGKILL)
        node.process.wait()

    def alive(self) -> set[str]:
        """Ids of the nodes that the head counts as alive."""
        infos = GcsClient(address=self.gcs).get_all_node_info(timeout=5)
        return {node_id.hex() for node_id, info in infos.items() if info.state == 0}

    def _start(self, options: list[str], address: str, prefix: list[str], namespace: str | None) -> Node:
        node_id = uuid4().hex + uuid4().hex[:24]
        name = f"node{len(self._nodes)}"
        command = [
            *prefix,
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
            *("--node-ip-address", address, "--min-worker-port", "0", "--max-worker-port", "0"),
            *("--dashboard-agent-listen-port", "0", "--temp-dir", str(self._sockets / name)),
            *("--object-store-memory", str(150 * 2**20)),
            *options,
        ]
        environment = {
            **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            **QUICK_HEALTH,
            "RAY_AUTH_MODE": "disabled",
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node_id,
            "OMP_NUM_THREADS": "1",
        }
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        node = Node(node_id, process, namespace)
        self._nodes.append(node)
        self._wait_for(node, self._folder / f"{name}.log")
        return node

    def _wait_for(self, node: Node, log: Path) -> None:
        deadline = time.monotonic() + _UP_S
        while time.monotonic() < deadline:
            assert node.process.poll() is None, log.read_text()[-2000:]
            try:
                if node.node_id in self.alive():
                    return
            except Exception as error:  # noqa: BLE001 - the head is not up yet, whatever Ray calls that
                reason = error
            time.sleep(0.5)
        raise AssertionError(f"the node did not come up: {reason}; {log.read_text()[-2000:]}")
