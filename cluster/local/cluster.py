"""A Ray cluster of processes on this machine: `start`, `status`, `stop`, each naming the folder that holds its state.

Everything listens on loopback behind a token of its own. The processes are remembered by pid and start time, and only
those (and what they started) are ended. With --autoscale the workers come and go as a sweep asks, as on a cloud.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fake_cloud import HEAD_NODE_ID, autoscaling_config
from ports import free_port
from processes import Process, end, family, is_alive, remembered

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 180


def node_environment(folder: Path) -> dict[str, str]:
    """What every process of the cluster, and whoever talks to it, has in its environment."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        # The `python` and `ray-darts` of a job are those of this environment.
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        # Several nodes share this machine: none may take all of its cores for its own threads.
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def start_node(folder: Path, name: str, options: list[str], extra: Mapping[str, str]) -> Process:
    """Start one `ray start --block`, output in <folder>/<name>.log, and return it without waiting for it to be up."""
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        *("--node-ip-address", LOOPBACK, "--min-worker-port", "0", "--max-worker-port", "0"),
        *("--dashboard-agent-listen-port", "0"),  # one that the agent itself finds free
        *options,
    ]
    environment = {**os.environ, **node_environment(folder), **extra}
    for name_elsewhere in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN"):
        environment.pop(name_elsewhere, None)
    with (folder / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return remembered(child.pid)


def start(arguments: argparse.Namespace) -> int:
    """Bring the cluster up and print what a client exports; 1 (and nothing left running) if it does not come up."""
    folder: Path = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    state_file = folder / "cluster.json"
    if state_file.exists():
        print(f"{state_file} is there: a cluster was started here; stop it first", file=sys.stderr)
        return 1
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="utf-8")

    gcs, dashboard = f"{LOOPBACK}:{free_port()}", f"http://{LOOPBACK}:{free_port()}"
    options = ["--head", "--port", gcs.partition(":")[2], "--temp-dir", str(folder / "ray")]
    options += ["--dashboard-host", LOOPBACK, "--dashboard-port", dashboard.rpartition(":")[2]]
    options += ["--include-dashboard", "true", "--ray-client-server-port", str(free_port())]
    options += ["--num-cpus", str(arguments.head_cpus), "--object-store-memory", str(arguments.object_store_bytes)]
    extra = {"RAY_JOB_STOP_WAIT_TIME_S": str(arguments.stop_wait_s)}
    if arguments.autoscale:
        config_file = folder / "autoscaler.json"
        config = autoscaling_config(gcs, arguments.autoscale, arguments.cpus, arguments.idle_s, arguments.head_cpus)
        config_file.write_text(json.dumps(config, indent=2), encoding="utf-8")
        options += ["--autoscaling-config", str(config_file)]
        extra |= {"RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        # Where a search reads what the cluster may grow to.
        extra["RAY_DARTS_CLUSTER_FILE"] = str(config_file)
        extra |= {"RAY_CLOUD_INSTANCE_ID": HEAD_NODE_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_NODE_ID}

    state: dict[str, object] = {"dashboard": dashboard, "gcs": gcs}
    processes = {"head": start_node(folder, "head", options, extra)}
    write_state(state_file, state, processes)
    if not (wait_for_nodes(folder, dashboard, processes, 1) and wait_for_agent(folder / "ray")):
        return give_up(folder, "head")
    for number in range(1, arguments.workers + 1):
        name = f"worker-{number}"
        # A folder of its own: nodes that share one unpack a job's working directory over each other.
        worker = ["--address", gcs, "--num-cpus", str(arguments.cpus), "--temp-dir", str(folder / f"w{number}")]
        worker += ["--object-store-memory", str(arguments.object_store_bytes)]
        processes[name] = start_node(folder, name, worker, {})
        write_state(state_file, state, processes)
    if not wait_for_nodes(folder, dashboard, processes, 1 + arguments.workers):
        return give_up(folder, "worker-1")
    print(f"export RAY_API_SERVER_ADDRESS={dashboard} RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token}")
    return 0


def write_state(state_file: Path, state: Mapping[str, object], processes: Mapping[str, Process]) -> None:
    """Remember what is running, at once: a start that is interrupted can still be stopped."""
    listed = {name: [process.pid, process.started] for name, process in processes.items()}
    state_file.write_text(json.dumps({**state, "processes": listed}, indent=2), encoding="utf-8")


def read_state(folder: Path) -> tuple[dict[str, str], dict[str, Process]]:
    """(addresses, processes by name) of the cluster in `folder`. Raises: FileNotFoundError where none was started."""
    state = json.loads((folder / "cluster.json").read_text(encoding="utf-8"))
    listed = state.pop("processes")
    return state, {name: Process(pid, started) for name, (pid, started) in listed.items()}


def alive_nodes(folder: Path, dashboard: str) -> int | None:
    """How many nodes the cluster counts as alive; None where the dashboard does not answer yet."""
    token = (folder / "token").read_text(encoding="utf-8")
    request = urllib.request.Request(f"{dashboard}/nodes?view=summary", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            summary = json.load(answer)["data"]["summary"]
    except (OSError, urllib.error.URLError, ValueError, KeyError):
        return None
    return sum(node["raylet"].get("state") == "ALIVE" for node in summary)


def wait_for_nodes(folder: Path, dashboard: str, processes: Mapping[str, Process], wanted: int) -> bool:
    """Wait until `wanted` nodes are alive; False when a process ends first, or after START_TIMEOUT_S."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and all(is_alive(process) for process in processes.values()):
        if (alive_nodes(folder, dashboard) or 0) >= wanted:
            return True
        time.sleep(0.5)
    return False


def wait_for_agent(folder: Path) -> bool:
    """Wait until the head takes jobs: its agent writes its port; False where it found none, or after a while."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for port in folder.glob("session_*/dashboard_agent_listen_port*"):
            if text := port.read_text(encoding="ascii").strip():
                return int(text) > 0
        time.sleep(0.5)
    return False


def give_up(folder: Path, name: str) -> int:
    """Tell why, end what was started, and return 1."""
    log = (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    print(f"the cluster did not come up; the end of {folder / name}.log:\n{log[-3000:]}", file=sys.stderr)
    stop(argparse.Namespace(folder=folder, grace_s=5.0))
    return 1


def stop(arguments: argparse.Namespace) -> int:
    """End the cluster of the folder: workers, then head, then whatever of their descendants is still there."""
    folder: Path = arguments.folder.absolute()
    try:
        _, processes = read_state(folder)
    except FileNotFoundError:
        print(f"no cluster was started in {folder}")
        return 0
    descendants = family(processes.values())
    workers_first = sorted(processes.values(), key=lambda process: process.pid, reverse=True)
    end(workers_first, arguments.grace_s)
    end(descendants, arguments.grace_s)
    (folder / "cluster.json").unlink(missing_ok=True)
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Print the processes and the number of nodes; 1 where a process is missing."""
    folder: Path = arguments.folder.absolute()
    try:
        state, processes = read_state(folder)
    except FileNotFoundError:
        print(f"no cluster was started in {folder}")
        return 1
    for name, process in processes.items():
        print(f"{name}\t{process.pid}\t{'running' if is_alive(process) else 'gone'}")
    print(f"nodes alive\t{alive_nodes(folder, state['dashboard'])}\t{state['dashboard']}")
    return 0 if all(is_alive(process) for process in processes.values()) else 1


def main(argv: list[str]) -> int:
    """Parse the command line and run one of start, status, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (("start", start), ("status", status), ("stop", stop)):
        command = commands.add_parser(name, help=(run.__doc__ or "").partition(";")[0])
        command.set_defaults(run=run)
        command.add_argument("--folder", type=Path, default=Path("/tmp/ray-darts-local"), help="short: for sockets")
        if run is start:
            command.add_argument("--workers", type=int, default=0, help="workers that stay")
            command.add_argument("--autoscale", type=int, default=0, metavar="MAX", help="workers that come and go")
            command.add_argument("--cpus", type=int, default=1, help="of one worker")
            command.add_argument("--head-cpus", type=int, default=0)
            command.add_argument("--idle-s", type=float, default=30.0, help="after which --autoscale removes a node")
            command.add_argument("--stop-wait-s", type=int, default=60, help="grace of `ray job stop`")
            command.add_argument("--object-store-bytes", type=int, default=100_000_000, help="of each node")
        if run is stop:
            command.add_argument("--grace-s", type=float, default=20.0, help="between SIGTERM and SIGKILL")
    arguments = parser.parse_args(argv)
    code = arguments.run(arguments)
    assert isinstance(code, int)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
