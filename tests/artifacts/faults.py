"""A proxy in front of an S3 server that does what S3 does at night, by rules that can change at any time."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.artifacts.servers import free_port, program, serving

NIGHT: list[dict[str, object]] = [
    {"service": "s3", "probability": 0.15, "reset": True},
    {"service": "s3", "probability": 0.10, "error": {"code": "ServiceUnavailable", "status": 503}},
    {"service": "s3", "probability": 0.05, "error": {"code": "SlowDown", "status": 503}},
    {"service": "s3", "probability": 0.05, "latency": {"min": 3000, "max": 3000}},
    {"service": "s3", "operation": "GetObject", "probability": 0.10, "response": {"truncate_frac": 0.5}},
    {"service": "s3", "operation": "GetObject", "probability": 0.05, "response": {"abort_frac": 0.5}},
]
OUTAGE: list[dict[str, object]] = [{"service": "s3", "reset": True}]


class FaultProxy:
    """A running proxy; `url` is what clients use."""

    def __init__(self, url: str) -> None:
        self.url = url

    def set_rules(self, rules: list[dict[str, object]]) -> None:
        """From now on these rules and no others."""
        body = json.dumps(rules).encode()
        request = urllib.request.Request(f"{self.url}/_microburst/rules", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10):
            pass

    def fired(self) -> list[object]:
        """Each time that a rule has struck."""
        with urllib.request.urlopen(f"{self.url}/_microburst/fired?limit=100000", timeout=10) as answer:
            fired: list[object] = json.load(answer)
        return fired


@contextlib.contextmanager
def fault_proxy(upstream: str, folder: Path) -> Iterator[FaultProxy]:
    """A proxy before the server at `upstream`, on a free port of loopback; without rules it passes everything."""
    port = free_port()
    command = [program("microburst"), "--upstream", upstream, "--port", str(port), "--host", "127.0.0.1"]
    with serving(command, port, folder / "microburst.log"):
        yield FaultProxy(f"http://127.0.0.1:{port}")
