"""The one place where errors end a command: a message on stderr and an exit code of `ray_darts.exit_codes`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

from ray_darts.errors import RayDartsError
from ray_darts.exit_codes import INTERRUPTED, exit_code_of_error

_Parameters = ParamSpec("_Parameters")


def with_exit_codes(command: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """Wrap a command: an error of ours becomes one message on stderr and an exit code, any other is a bug of ours."""

    @functools.wraps(command)
    def wrapped(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except RayDartsError as error:
            sys.stderr.write(f"ray-darts: {error}\n")
            raise typer.Exit(exit_code_of_error(error)) from error
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(INTERRUPTED) from interrupt

    return wrapped
