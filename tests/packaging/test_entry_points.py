"""The ways to start the command line that a script of the package's environment does not cover."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ray_darts import __version__

ROOT = Path(__file__).parents[2]


def run(*words: str, **environment: str) -> str:
    """Run `python words` on this checkout and return its output."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, *words], env=variables, capture_output=True, text=True, timeout=120, check=True
    ).stdout


def test_the_module_runs_the_command_line() -> None:
    assert run("-m", "ray_darts", "--version") == f"ray-darts {__version__}\n"


def test_the_shell_completes_commands() -> None:
    main = "import sys; sys.argv[0] = 'ray-darts'; from ray_darts.cli import main; main()"
    completed = run("-c", main, _RAY_DARTS_COMPLETE="complete_bash", COMP_WORDS="ray-darts s", COMP_CWORD="1")
    assert completed.split() == ["search", "submit", "status", "sync", "show"]
