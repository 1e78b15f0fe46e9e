"""cluster/local without Ray: whose processes are ended, and the autoscaler's config as Ray checks it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.files import CLUSTER, load_script

processes = load_script(CLUSTER / "local" / "processes.py")
fake_cloud = load_script(CLUSTER / "local" / "fake_cloud.py")

PARENT = "import subprocess, sys; print(subprocess.Popen(['sleep', '100']).pid, flush=True); sys.stdin.read()"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(100)"
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "100"]) as child:
        yield child
        child.kill()


def test_remembered_process_is_ended_and_no_other(sleeper: subprocess.Popen[bytes]) -> None:
    with subprocess.Popen(["sleep", "100"]) as other:
        processes.end([processes.remembered(sleeper.pid)], grace_s=10.0)
        assert sleeper.wait(timeout=10) == -signal.SIGTERM
        assert other.poll() is None
        other.kill()


def test_pid_that_was_given_to_another_is_never_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    remembered = processes.remembered(sleeper.pid)
    earlier = processes.Process(remembered.pid, remembered.started - 1)
    assert not processes.is_alive(earlier)
    processes.end([earlier], grace_s=0.0)
    time.sleep(0.2)
    assert sleeper.poll() is None
    assert processes.family([earlier]) == []


def test_process_that_does_not_listen_is_killed_after_its_grace() -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        processes.end([processes.remembered(stubborn.pid)], grace_s=0.3)
        assert stubborn.wait(timeout=10) == -signal.SIGKILL


def test_family_is_all_that_a_process_started() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        found = processes.family([processes.remembered(parent.pid)])
        assert [process.pid for process in found] == [grandchild]
        processes.end(found, grace_s=10.0)
        parent.kill()


def test_process_that_is_gone_cannot_be_remembered(sleeper: subprocess.Popen[bytes]) -> None:
    remembered = processes.remembered(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert not processes.is_alive(remembered)
    with pytest.raises(ProcessLookupError):
        processes.remembered(sleeper.pid)


def test_fake_cloud_passes_rays_own_checks() -> None:
    config = prepare_config(fake_cloud.autoscaling_config("127.0.0.1:1", 3, 2, 30.0, 0))
    validate_config(config)
    worker = config["available_node_types"]["worker"]
    assert (worker["min_workers"], worker["max_workers"], worker["resources"]) == (0, 3, {"CPU": 2})
    assert config["available_node_types"]["ray.head.default"]["max_workers"] == 0
    assert config["idle_timeout_minutes"] == 0.5
