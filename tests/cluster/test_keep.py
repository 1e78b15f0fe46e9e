"""`keep` has one process under a name and ends that one alone, whatever became of its pid."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.files import CLUSTER, load_script

if TYPE_CHECKING:
    from cluster.local.processes import Process

processes = load_script(CLUSTER / "local" / "processes.py")

Keep = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Keep]:
    """Runs the script with a state folder of its own; ends what a test left."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "KEEP_FOLDER": str(tmp_path),
            "KEEP_SETTLE_S": "0.3",
            "KEEP_GRACE_S": "3",
        }
        command = [str(CLUSTER / "keep"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)

    yield run
    for pid_file in tmp_path.glob("*.pid"):
        assert run("--end", pid_file.stem).returncode == 0


def kept(tmp_path: Path, name: str) -> Process:
    """The process in a pid file."""
    process: Process = processes.Process(*map(int, (tmp_path / f"{name}.pid").read_text().split()))
    return process


def wait_until_gone(process: Process) -> None:
    deadline = time.monotonic() + 60
    while processes.is_alive(process):
        assert time.monotonic() < deadline, f"{process} is still there"
        time.sleep(0.05)


def test_new_process_replaces_the_one_of_its_name_and_no_other(keep: Keep, tmp_path: Path) -> None:
    for name in ("watcher", "node"):
        assert keep(name, "sleep", "100").returncode == 0
    first, watcher = kept(tmp_path, "node"), kept(tmp_path, "watcher")
    assert processes.is_alive(first)
    assert keep("node", "sleep", "100").returncode == 0
    second = kept(tmp_path, "node")
    assert not processes.is_alive(first)
    assert processes.is_alive(second)
    assert processes.is_alive(watcher)
    assert keep("--end", "node", "watcher", "never-started").returncode == 0
    for process in (second, watcher):
        wait_until_gone(process)


def test_process_that_does_not_come_up_is_a_failure_that_says_why(keep: Keep) -> None:
    done = keep("node", "sh", "-c", "echo the port is taken; exit 1")
    assert done.returncode == 1
    assert "the port is taken" in done.stderr


def test_process_that_does_not_listen_is_killed_after_its_grace(keep: Keep, tmp_path: Path) -> None:
    assert keep("node", "sh", "-c", "trap '' TERM; while :; do sleep 1; done").returncode == 0
    stubborn = kept(tmp_path, "node")
    assert keep("--end", "node").returncode == 0
    wait_until_gone(stubborn)


def test_pid_that_was_given_to_another_is_never_signalled(keep: Keep, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        other = processes.remembered(bystander.pid)
        (tmp_path / "node.pid").write_text(f"{other.pid} {other.started - 1}\n")
        assert keep("--end", "node").returncode == 0
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("words", [[], ["node"], ["--end"]])
def test_missing_words_are_a_usage_error(keep: Keep, words: list[str]) -> None:
    assert keep(*words).returncode == 2
