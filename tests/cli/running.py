"""Runs the command line for tests: in this process, or as a user's shell would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from typer.testing import CliRunner

from ray_darts.cli.app import app

ROOT = Path(__file__).parents[2]


class Ran(NamedTuple):
    """What a command left."""

    code: int
    stdout: str
    stderr: str


def ray_darts(*words: str) -> Ran:
    """Run `ray-darts words` in this process."""
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def ray_darts_process(*words: str, cwd: Path, python: str = "from ray_darts.cli import main; main()") -> Ran:
    """Run `ray-darts words` in a fresh interpreter and folder; `python` is the program that gets the words."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", python, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
