"""Exit codes, and the one place where errors become them.

0    done: every run of the search has finished (or what was asked for was printed)
1    some runs failed, or what was checked is not in order
2    usage or config: nothing was written; correct the command
75   the store did not answer for `give_up_s`: everything committed is safe, the same command continues
76   superseded: a newer command has taken these runs over
130  interrupted: everything is resumable, the same command continues
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

from ray_darts.errors import (
    ClusterError,
    ClusterLost,
    ConfigError,
    GenotypeError,
    RayDartsError,
    StoreDenied,
    StoreUnavailable,
    Superseded,
)

DONE, FAILED, USAGE, STORE_GIVEN_UP, SUPERSEDED, INTERRUPTED = 0, 1, 2, 75, 76, 130

_Parameters = ParamSpec("_Parameters")

_CODES: tuple[tuple[type[RayDartsError], int], ...] = (
    (Superseded, SUPERSEDED),
    (StoreUnavailable, STORE_GIVEN_UP),
    (StoreDenied, USAGE),
    (ConfigError, USAGE),
    (GenotypeError, USAGE),
    (ClusterLost, FAILED),
    (ClusterError, USAGE),
)


def exit_code(error: RayDartsError) -> int:
    """The exit code that tells a script what to do about `error`."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


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
