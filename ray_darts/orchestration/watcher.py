"""Drains this Ray node when the cloud announces that its spot machine will be taken away; one process per node.

AWS: instance metadata, version 2 (a session token first). `python -m ray_darts.orchestration.watcher` runs beside
`ray start`; the metadata service's address is an argument, so that a local server can replace it in tests. The notice
only saves the steps since the last commit; results never depend on it.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime

logger = logging.getLogger("ray_darts.watcher")

METADATA_ADDRESS = "http://169.254.169.254"
POLL_S = 5.0
_TOKEN_LIFE_S = 21_600
_TIMEOUT_S = 2.0
_GONE = 404
_UNAUTHORISED = 401


@dataclass(frozen=True)
class Notice:
    """This machine will be taken away at `deadline` (UNIX seconds); `action` as the cloud names it."""

    action: str
    deadline: float


class Metadata:
    """The metadata service of this instance. A token is renewed when it is refused."""

    def __init__(self, address: str = METADATA_ADDRESS) -> None:
        self._address = address.rstrip("/")
        self._token: str | None = None

    def notice(self) -> Notice | None:
        """The interruption notice, None as long as there is none.

        Raises: OSError when nothing answers, ValueError when the answer is not one.
        """
        try:
            text = self._get("/latest/meta-data/spot/instance-action")
        except urllib.error.HTTPError as error:
            if error.code == _GONE:
                return None
            raise
        return read_notice(text)

    def _get(self, path: str) -> str:
        if self._token is None:
            self._token = self._new_token()
        try:
            return self._ask(path, "GET", {"X-aws-ec2-metadata-token": self._token})
        except urllib.error.HTTPError as error:
            if error.code == _UNAUTHORISED:
                self._token = None
            raise

    def _new_token(self) -> str:
        return self._ask("/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_LIFE_S)})

    def _ask(self, path: str, method: str, headers: dict[str, str]) -> str:
        request = urllib.request.Request(self._address + path, method=method, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            text: str = answer.read().decode()
        return text


def read_notice(text: str) -> Notice:
    """Parse `{"action": "terminate", "time": "2026-09-18T08:22:00Z"}`. Raises: ValueError."""
    plain = json.loads(text)
    if not isinstance(plain, dict) or not isinstance(plain.get("action"), str):
        raise ValueError(f"{text!r} is no interruption notice: wanted a JSON object with action and time")
    when = datetime.fromisoformat(str(plain.get("time")))
    return Notice(plain["action"], when.astimezone(UTC).timestamp())


def drain_node(ray_address: str, node_id: str, notice: Notice) -> None:
    """Drain this node in Ray until the notice's deadline. Raises: subprocess.CalledProcessError."""
    remaining_s = max(0, int(notice.deadline - time.time()))
    subprocess.run(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "drain-node"),
            *("--address", ray_address, "--node-id", node_id),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION"),
            *("--reason-message", f"spot {notice.action}"),
            *("--deadline-remaining-seconds", str(remaining_s)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )


def watch(metadata: Metadata, ray_address: str, node_id: str, poll_s: float = POLL_S) -> Notice:
    """Poll until a notice comes and Ray has accepted the drain; a failing poll or drain is logged and repeated."""
    while True:
        try:
            notice = metadata.notice()
            if notice is not None:
                drain_node(ray_address, node_id, notice)
                logger.warning("draining node %s: its machine will be taken away at %.0f", node_id, notice.deadline)
                return notice
        except (OSError, ValueError) as error:
            logger.info("no answer from the metadata service: %s", error)
        except subprocess.CalledProcessError as error:
            logger.error("Ray did not accept the drain: %s", error.stderr.strip())
        time.sleep(poll_s)


def node_id_of(ray_address: str, node_address: str | None) -> str:
    """The id of the living node at `node_address` (default: this machine's); waits until it has joined."""
    import ray

    ray.init(address=ray_address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        from ray_darts.orchestration.resources import living_nodes, own_address

        wanted = node_address or own_address()
        while True:
            for node in living_nodes():
                if node["NodeManagerAddress"] == wanted:
                    return str(node["NodeID"])
            time.sleep(POLL_S)
    finally:
        ray.shutdown()


def main(arguments: list[str] | None = None) -> int:
    """The command; ends after it has drained its node."""
    parser = argparse.ArgumentParser(description="drain this Ray node when its spot machine is about to be taken away")
    parser.add_argument("--ray-address", required=True, help="host:port of the cluster's head")
    parser.add_argument("--node-id", help="of the node to drain; default: the one with this machine's address")
    parser.add_argument("--node-address", help="IP of the node to drain; default: this machine's")
    parser.add_argument("--metadata-address", default=METADATA_ADDRESS)
    parser.add_argument("--poll-s", type=float, default=POLL_S)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s watcher: %(message)s")
    node_id = given.node_id or node_id_of(given.ray_address, given.node_address)
    watch(Metadata(given.metadata_address), given.ray_address, node_id, given.poll_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
