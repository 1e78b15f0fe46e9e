"""What a search on this machine leaves below Ray's temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cluster.files import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = """
import ray
from ray_darts.errors import ClusterLost, DataError
from ray_darts.orchestration.connection import ray_connection
from ray_darts.orchestration.ray_internals import own_session_folder

def use():
    print(own_session_folder().name, own_session_folder().is_dir(), ray.get(ray.remote(lambda: 7).remote()))

try:
    with ray_connection(None) as connection:
        assert connection.is_own
        use()
        raise DataError("no file")
except DataError:
    pass
with ray_connection(None) as connection:
    use()
    connection.keep_logs = True
try:
    with ray_connection(None):
        use()
        raise ClusterLost("Ray ended")
except ClusterLost:
    pass
"""


def test_a_session_of_this_process_is_removed_unless_its_logs_are_wanted_and_no_other_is() -> None:
    with tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp") as folder:
        other = Path(folder) / "ray" / "session_2026-01-01_00-00-00_000000_1" / "logs"
        other.mkdir(parents=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": folder, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=550, check=False
        )
        assert done.returncode == 0, done.stderr
        used = [line.split() for line in done.stdout.splitlines()]
        assert [words[1:] for words in used] == [["True", "7"]] * 3
        ended, wanted, failed = (words[0] for words in used)
        sessions = {path.name for path in (Path(folder) / "ray").glob("session_2*")}
        assert sessions == {other.parent.name, wanted, failed}
        assert ended not in sessions
        assert all(f"{kept}/logs" in done.stderr for kept in (wanted, failed))
