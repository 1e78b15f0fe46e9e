"""ray-node keeps one node per pid file and ends that one alone. `ray` and `python` are stand-ins: scripts that wait."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER

STAND_IN = """#!/bin/sh
[ "$3" = --broken ] && { echo "the port is taken"; exit 1; }
trap 'exit 0' TERM
while :; do sleep 0.1; done
"""

RayNode = Callable[..., subprocess.CompletedProcess[str]]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline, f"{pid} is still there"
        time.sleep(0.05)


@pytest.fixture
def ray_node(tmp_path: Path) -> Iterator[RayNode]:
    """Runs ray-node; `folder` names the machine's node. Ends what a test left by pid."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name in ("ray", "python"):
        (bin_folder / name).write_text(STAND_IN)
        (bin_folder / name).chmod(0o755)
    folders = set()

    def run(*arguments: str, folder: str = "node") -> subprocess.CompletedProcess[str]:
        folders.add(folder)
        environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "RAY_NODE_FOLDER": str(tmp_path / folder)}
        environment["RAY_NODE_SETTLE_S"] = "1"
        command = [str(CLUSTER / "ray-node"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)

    yield run
    for folder in folders:
        assert run("stop", folder=folder).returncode == 0


def pid_of(tmp_path: Path, folder: str = "node", name: str = "node") -> int:
    return int((tmp_path / folder / f"{name}.pid").read_text())


def test_start_replaces_the_node_it_started_and_no_other(ray_node: RayNode, tmp_path: Path) -> None:
    assert ray_node("start", "--head", folder="other").returncode == 0
    assert ray_node("start", "--head").returncode == 0
    first, other = pid_of(tmp_path), pid_of(tmp_path, "other")
    assert ray_node("start", "--head").returncode == 0
    second = pid_of(tmp_path)
    wait_until_gone(first)
    assert alive(second)
    assert alive(other)
    assert ray_node("stop").returncode == 0
    wait_until_gone(second)
    assert alive(other)


def test_watcher_is_kept_beside_the_node_and_ends_with_it(ray_node: RayNode, tmp_path: Path) -> None:
    assert ray_node("start").returncode == 0
    assert ray_node("watch", "--ray-address=head:6379").returncode == 0
    node, watcher = pid_of(tmp_path), pid_of(tmp_path, name="watcher")
    assert ray_node("watch", "--ray-address=head:6379").returncode == 0
    wait_until_gone(watcher)
    assert alive(node)
    second = pid_of(tmp_path, name="watcher")
    assert ray_node("stop").returncode == 0
    for pid in (node, second):
        wait_until_gone(pid)


def test_node_that_does_not_come_up_is_a_failure_that_tells_why(ray_node: RayNode) -> None:
    done = ray_node("start", "--broken")
    assert done.returncode == 1
    assert "the port is taken" in done.stderr


def test_stale_pid_file_ends_nobody(ray_node: RayNode, tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "node").mkdir()
        (tmp_path / "node" / "node.pid").write_text(str(bystander.pid))
        assert ray_node("stop").returncode == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_unknown_command_is_a_usage_error(ray_node: RayNode) -> None:
    assert ray_node("restart").returncode == 2
