"""The one place where errors end a command: a message on stderr and an exit code of `ray_darts.exit_codes`."""

from __future__ import annotations

import functools
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

from ray_darts import __version__
from ray_darts.errors import RayDartsError
from ray_darts.exit_codes import BUG, INTERRUPTED, exit_code_of_error
from ray_darts.messages import shown_message

_Parameters = ParamSpec("_Parameters")


def _bug_text(error: Exception) -> str:
    """One line about an error that should not have come so far; the traceback goes to a file."""
    first = shown_message(f"{type(error).__name__}: {error}".splitlines()[0])
    report = f"ray_darts {__version__}\n{' '.join(map(repr, sys.argv))}\n{''.join(traceback.format_exception(error))}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="ray-darts-bug-", suffix=".txt", delete=False) as file:
            file.write(report.encode(errors="backslashreplace").decode())
    except OSError as unwritable:
        return f"this is a bug in ray_darts: {first}; no file for its details: {unwritable}\n{shown_message(report)}"
    return f"this is a bug in ray_darts: {first}; details in {file.name}"


def with_exit_codes(command: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """Wrap a command: an error of ours becomes one message on stderr and an exit code.

    Any other error is a bug of ours: it has an exit code of its own, and its traceback goes to a file.
    """

    @functools.wraps(command)
    def wrapped(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except RayDartsError as error:
            sys.stderr.write(f"ray-darts: {shown_message(str(error))}\n")
            raise typer.Exit(exit_code_of_error(error)) from error
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(INTERRUPTED) from interrupt
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except Exception as error:  # the last net: whatever it is, people see one line
            sys.stderr.write(f"ray-darts: {_bug_text(error)}\n")
            raise typer.Exit(BUG) from error

    return wrapped
