"""The one place where errors end a command: a message on stderr and an exit code of `ray_darts.exit_codes`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

from ray_darts.errors import RayDartsError
from ray_darts.exit_codes import (
    DONE,
    FAILED,
    INTERRUPTED,
    STORE_GIVEN_UP,
    SUPERSEDED,
    USAGE,
    exit_code_of_error,
)

__all__ = ["DONE", "FAILED", "INTERRUPTED", "STORE_GIVEN_UP", "SUPERSEDED", "USAGE", "exit_code", "with_exit_codes"]

_Parameters = ParamSpec("_Parameters")

exit_code = exit_code_of_error


def with_exit_codes(command: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """Wrap a command: an error of ours becomes one message on stderr and an exit code, any other is a bug of ours."""

    @functools.wraps(command)
    def wrapped(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except RayDartsError as error:
            sys.stderr.write(f"ray-darts: {error}\n")
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(INTERRUPTED) from interrupt

    return wrapped
