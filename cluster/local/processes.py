"""Processes of this machine (Linux), known by pid and start time: a pid given to another is never signalled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process; `started` is its start time in clock ticks after boot, which no two holders of a pid share."""

    pid: int
    started: int


def remembered(pid: int) -> Process:
    """The process that has this pid now. Raises: ProcessLookupError."""
    fields = _stat(pid)
    if fields is None:
        raise ProcessLookupError(f"no process {pid}")
    return Process(pid, int(fields[19]))


def is_alive(process: Process) -> bool:
    """Whether that process runs; one that has ended but was not waited for does not."""
    fields = _stat(process.pid)
    return fields is not None and int(fields[19]) == process.started and fields[0] not in ("Z", "X")


def family(processes: Iterable[Process]) -> list[Process]:
    """All living descendants of the living ones among `processes`."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdigit() else None
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(Process(int(entry.name), int(fields[19])))
    found: list[Process] = []
    open_ones = [process for process in processes if is_alive(process)]
    while open_ones:
        next_ones = children.get(open_ones.pop().pid, [])
        found += next_ones
        open_ones += next_ones
    return found


def end(processes: Iterable[Process], grace_s: float) -> None:
    """SIGTERM to each, in order, and SIGKILL to those that are still there `grace_s` later."""
    waiting = [process for process in processes if _signal(process, signal.SIGTERM)]
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and (waiting := [process for process in waiting if is_alive(process)]):
        time.sleep(0.1)
    for process in waiting:
        kill(process)


def kill(process: Process) -> None:
    """SIGKILL, unless it has ended."""
    _signal(process, signal.SIGKILL)


def _signal(process: Process, number: signal.Signals) -> bool:
    if not is_alive(process):
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat after the name: state, parent, …, start time at index 19."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
