"""Ends this process with SIGKILL at a named point of the code, for tests; without the variable it does nothing.

`RAY_DARTS_CRASHES` names a folder; a file `<point>@<n>` in it ends the process at its n-th visit of that point, and
is removed first, so that one test can end several processes in turn. Points are those of `artifacts.crash_points` and
`collective.<rank>`.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ray_darts.artifacts.crash_points import set_crash_hook

VARIABLE = "RAY_DARTS_CRASHES"

_hook: Callable[[str], None] | None = None


def install_crash_hook() -> None:
    """Install the crash points of the folder that the environment names, if it names one."""
    global _hook
    folder = os.environ.get(VARIABLE)
    if folder is not None:
        _hook = _CrashFiles(Path(folder))
        set_crash_hook(_hook)


def visit(point: str) -> None:
    """Mark a crash point of the search itself."""
    if _hook is not None:
        _hook(point)


class _CrashFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._visits: Counter[str] = Counter()

    def __call__(self, point: str) -> None:
        self._visits[point] += 1
        file = self._folder / f"{point}@{self._visits[point]}"
        try:
            file.unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
