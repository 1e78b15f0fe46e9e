"""`ray-darts doctor`: checks whether a machine, a cluster and a store are fit for a search, and the mathematics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import Json, StoreOverrides
from ray_darts.cli.output import report_line, show_result
from ray_darts.exit_codes import FAILED

if TYPE_CHECKING:
    from ray_darts.cli.examination import DoctorLine


def doctor(
    store: Annotated[str | None, typer.Option("--store", metavar="URI", help="Also check this store.")] = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="RAY", help="Also check this Ray cluster.")
    ] = None,
    overrides: StoreOverrides = None,
    as_json: Json = False,
) -> None:
    """Check this machine, a cluster, a store and the mathematics.

    Each line is ok, warning or failure, with what to do. Puts a probe object into the store and removes it. Takes
    about a minute; exit 1 on a failure.
    """
    lines = []
    for line in _examine(store, address, overrides):
        lines.append(line)
        if as_json:
            report_line(f"{line.state}: {line.area} {line.name}")
        else:
            show_result(_text(line), None, as_json=False)
    if as_json:
        show_result("", [asdict(line) for line in lines], as_json=True)
    if any(line.state == "failure" for line in lines):
        raise typer.Exit(FAILED)


def _examine(store: str | None, address: str | None, overrides: list[str] | None) -> Iterator[DoctorLine]:
    from ray_darts.cli import examination
    from ray_darts.cli.stores import open_named_store

    opened = None if store is None else open_named_store(store, overrides)
    checks: list[tuple[str, Callable[[], Iterator[DoctorLine]]]] = [
        ("versions", examination.check_versions),
        ("devices", examination.check_devices),
        ("cluster", lambda: examination.check_cluster(address)),
        ("mathematics", examination.check_mathematics),
    ]
    if opened is not None:
        checks.insert(3, ("store", lambda: examination.check_store(opened)))
    for area, check in checks:
        yield from examination.guarded(area, check)


def _text(line: DoctorLine) -> str:
    advice = f"\n{'':<10}{line.advice}" if line.advice else ""
    return f"{line.state:<10}{line.area} {line.name}: {line.detail}{advice}"
