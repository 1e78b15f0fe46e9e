"""What must not stand in a deployed file: an address open without token and reason, an end of processes by name."""

from __future__ import annotations

import re
from pathlib import Path

OPEN_ADDRESS = re.compile(r"0\.0\.0\.0|(?<![\w:])::/0|--dashboard-host[= ]\"?(?!127\.0\.0\.1|localhost)\S+")
BY_NAME = re.compile(r"\bray\s+stop\b|\bpkill\b|\bkillall\b|ray\.scripts.*\bstop\b")
TOKEN = re.compile(r"RAY_AUTH_MODE\W{1,4}(value\W+)?token|authOptions:\s*\{?\s*mode:\s*token")
REASON = re.compile(r"(#|//)\s*open because\b")


def exposure_faults(path: Path) -> list[str]:
    """Lines of a file that open an address to everybody without a token and a reason, or end processes by name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    token = TOKEN.search("\n".join(lines)) is not None
    faults = []
    for number, line in enumerate(lines, start=1):
        code = line.split("#", 1)[0] if path.suffix != ".json" else line
        if BY_NAME.search(code):
            faults.append(f"{path.name}:{number}: ends processes by name")
        if OPEN_ADDRESS.search(code):
            reason = any(REASON.search(text) for text in (line, lines[number - 2] if number > 1 else ""))
            if not token:
                faults.append(f"{path.name}:{number}: open to everybody without a token")
            if not reason:
                faults.append(f"{path.name}:{number}: open to everybody without `# open because …`")
    return faults
