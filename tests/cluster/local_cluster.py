"""A cluster of cluster/local/ for the length of a test: real head, dashboard, token, jobs, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.status import RunStatus
from ray_darts.artifacts.statuses import experiment_status
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.config import StoreSettings
from tests.cluster.files import CLUSTER, ROOT, load_script

if TYPE_CHECKING:
    from cluster.local.processes import Process

processes = load_script(CLUSTER / "local" / "processes.py")

SCRIPT = CLUSTER / "local" / "cluster.py"
COMMAND = [sys.executable, "-c", "from ray_darts.cli import main; main()"]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
SUBMITTED = re.compile(r"job (\S+) submitted")
PATIENCE_S = 600.0  # never reached where all is well; several times what a busy machine needs


def wait_until(condition: Callable[[], bool], what: str, unless: Callable[[], bool] = lambda: False) -> None:
    """Poll until `condition` holds. Raises: AssertionError after PATIENCE_S, or once `unless` holds instead."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert not unless(), f"will never happen: {what}"
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s in vain: {what}"
        time.sleep(0.5)


def without_ray() -> dict[str, str]:
    """This environment without anything that names another cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@dataclass(frozen=True)
class LocalCluster:
    """A running cluster; `store` is a folder that its nodes, all on this machine, share."""

    folder: Path
    dashboard: str

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def folder_store(self) -> ObjectStore:
        return open_store(str(self.store), StoreSettings())

    def environment(self) -> dict[str, str]:
        """What a client of this cluster has in its environment, addresses of others removed."""
        return {
            **without_ray(),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_API_SERVER_ADDRESS": self.dashboard,
        }

    def submit(
        self, *words: str, token_file: Path | None = None, store: ObjectStore | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`ray-darts submit` to this cluster, in a process that knows only its options; `store`: not the folder."""
        return subprocess.run(
            self._submission(words, token_file or self.token_file, store),
            cwd=ROOT,
            env=without_ray(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    @contextmanager
    def submitted(self, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """`ray-darts submit` that follows its job while the block runs, and the submission id."""
        with (
            (self.folder / "followed.log").open("w") as log,
            subprocess.Popen(
                self._submission(words, self.token_file),
                cwd=ROOT,
                env=without_ray(),
                stdout=log,
                stderr=subprocess.PIPE,
                text=True,
            ) as followed,
        ):
            assert followed.stderr is not None
            try:
                submitted = next(match for line in followed.stderr if (match := SUBMITTED.match(line)))
                yield followed, submitted[1]
            finally:
                followed.kill()

    def _submission(self, words: Sequence[str], token_file: Path, store: ObjectStore | None = None) -> list[str]:
        command = [*COMMAND, "submit", "--store", (store or self.folder_store).uri, "--address", self.dashboard]
        return [*command, "--token-file", str(token_file), *words]

    def ray(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Ray's own command line on this cluster."""
        return subprocess.run(
            [*RAY, *words],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def answer(self, path: str, token: str | None) -> int:
        """HTTP status of a GET."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.dashboard + path, headers=headers), timeout=60
            ) as got:
                return int(got.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def get(self, path: str) -> dict[str, object]:
        """JSON of a GET with the token."""
        headers = {"Authorization": f"Bearer {self.token_file.read_text()}"}
        with urllib.request.urlopen(urllib.request.Request(self.dashboard + path, headers=headers), timeout=60) as got:
            read = json.load(got)
        assert isinstance(read, dict)
        return read

    def job(self, submission_id: str) -> dict[str, object]:
        """What the cluster says of a job: status, driver_exit_code, …"""
        return self.get(f"/api/jobs/{submission_id}")

    def log_of(self, submission_id: str) -> str:
        """The driver's output so far."""
        return str(self.get(f"/api/jobs/{submission_id}/logs")["logs"])

    def num_nodes(self) -> int:
        """Nodes that the cluster counts as alive, the head included."""
        nodes = self.get("/nodes?view=summary")["data"]
        assert isinstance(nodes, dict)
        return sum(node["raylet"].get("state") == "ALIVE" for node in nodes["summary"])

    def worker_nodes(self) -> list[list[Process]]:
        """The nodes that the fake cloud runs, each as its raylet and all processes below it."""
        head = json.loads((self.folder / "cluster.json").read_text())["processes"]["head"]
        nodes = []
        for process in processes.family([processes.Process(*head)]):
            try:
                command = Path(f"/proc/{process.pid}/cmdline").read_bytes().partition(b"\0")[0]
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if command.endswith(b"/raylet") and b"RAY_NODE_TYPE_NAME=worker\0" in environment:
                nodes.append([process, *processes.family([process])])
        return nodes

    def status(self, experiment: str, store: ObjectStore | None = None) -> list[RunStatus]:
        """All runs of an experiment in this cluster's folder, or in `store`."""
        return experiment_status(store or self.folder_store, experiment)

    def experiments(self) -> list[str]:
        """Experiments that have been registered."""
        return sorted(path.parent.name for path in self.store.glob("*/experiment.json"))

    def problems(self, experiment: str, store: ObjectStore | None = None) -> list[str]:
        """What `ray-darts verify` finds wrong."""
        report = verify_experiment(store or self.folder_store, experiment)
        return [str(problem) for problem in report.problems]


@contextmanager
def local_cluster(*options: str) -> Iterator[LocalCluster]:
    """Start a cluster with options of cluster/local/cluster.py, and end it by pid, come what may."""
    folder = Path(tempfile.mkdtemp(prefix="rd-", dir="/tmp"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), *words]
        return subprocess.run(
            command, env=without_ray(), capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    try:
        started = run("start", "--folder", str(folder), *options)
        assert started.returncode == 0, started.stderr
        state = json.loads((folder / "cluster.json").read_text())
        yield LocalCluster(folder, state["dashboard"])
    finally:
        everybody = started_processes(folder)
        assert run("stop", "--folder", str(folder)).returncode == 0
        assert not [process for process in everybody if processes.is_alive(process)]
        shutil.rmtree(folder, ignore_errors=True)


def started_processes(folder: Path) -> list[Process]:
    """The cluster's processes and all that they started; none where it did not come up."""
    state_file = folder / "cluster.json"
    if not state_file.exists():
        return []
    roots = [processes.Process(*process) for process in json.loads(state_file.read_text())["processes"].values()]
    return [*roots, *processes.family(roots)]
