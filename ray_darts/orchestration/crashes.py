"""Ends this process with SIGKILL at named moments, when a test asks: a folder of files, each one a moment, used once.

`RAY_DARTS_CRASHES` names the folder; a file `<point>@<n>` in it ends the process at its n-th visit of that point,
and is removed first, so several deaths can be chained in one fit. Points are those of `artifacts.crash_points` and
`collective.<rank>`. Without the variable nothing is looked at.
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


def crash_where_told() -> None:
    """Arm this process if the environment says so."""
    global _hook
    folder = os.environ.get(VARIABLE)
    if folder is not None:
        _hook = _Executioner(Path(folder))
        set_crash_hook(_hook)


def visit(point: str) -> None:
    """Mark a moment of the search itself."""
    if _hook is not None:
        _hook(point)


class _Executioner:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._visits: Counter[str] = Counter()

    def __call__(self, point: str) -> None:
        self._visits[point] += 1
        told = self._folder / f"{point}@{self._visits[point]}"
        try:
            told.unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
