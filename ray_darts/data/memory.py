"""Checks that a data set fits in memory, before it is decoded. Knows no data set."""

from __future__ import annotations

import os
from pathlib import Path

from ray_darts.errors import DataError

_CONTAINER_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


HELD_SHARE = 0.25
"""Of the free memory: data up to it are held there, for each worker of a node has its own copy."""


def available_memory_bytes() -> int:
    """Bytes that this process may still allocate: the smaller of the machine's and its container's free memory."""
    return max(0, min([_machine_bytes(), *_container_bytes()]))


def check_memory(needed_bytes: int, limit_bytes: int, what: str, advice: str) -> None:
    """Raise DataError with `advice` when `what` would take more than `limit_bytes`."""
    if needed_bytes > limit_bytes:
        raise DataError(
            f"{what} needs {gigabytes(needed_bytes)} GB, has {gigabytes(limit_bytes)}; {advice}",
            needed_bytes=needed_bytes,
            limit_bytes=limit_bytes,
        )


def gigabytes(num_bytes: int) -> str:
    """`num_bytes` in GB, three digits."""
    return f"{num_bytes / 1e9:.3g}"


def _machine_bytes() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _container_bytes() -> list[int]:
    left = []
    for limit, usage in _CONTAINER_LIMITS:
        try:
            used = int(Path(usage).read_text()) - _reclaimable_bytes(Path(usage).with_name("memory.stat"))
            left.append(int(Path(limit).read_text()) - used)
        except (OSError, ValueError):  # no such control group, or its limit reads "max"
            continue
    return left


def _reclaimable_bytes(statistics: Path) -> int:
    """Pages of files that the system takes back when it needs them, such as those of a mapped file."""
    lines = statistics.read_text().splitlines() if statistics.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
