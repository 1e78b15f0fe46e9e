"""`ray-darts doctor`: is this machine, this cluster and this store fit for a search, and is the mathematics right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.exits import FAILED
from ray_darts.cli.options import Json, StoreOverrides
from ray_darts.cli.output import show_result, tell

if TYPE_CHECKING:
    from ray_darts.cli.examination import Finding


def doctor(
    store: Annotated[str | None, typer.Option("--store", metavar="URI", help="Also try this store.")] = None,
    address: Annotated[str | None, typer.Option("--address", metavar="RAY", help="Also ask this Ray cluster.")] = None,
    overrides: StoreOverrides = None,
    as_json: Json = False,
) -> None:
    """Examine this machine, a cluster, a store and the maths.

    Each line is ok, warning or failure, with what to do. Puts a probe object into the store and removes it. Takes
    about a minute; exit 1 on a failure.
    """
    findings = []
    for finding in _examine(store, address, overrides):
        findings.append(finding)
        if as_json:
            tell(f"{finding.state}: {finding.area} {finding.name}")
        else:
            show_result(_line(finding), None, as_json=False)
    if as_json:
        show_result("", [asdict(finding) for finding in findings], as_json=True)
    if any(finding.state == "failure" for finding in findings):
        raise typer.Exit(FAILED)


def _examine(store: str | None, address: str | None, overrides: list[str] | None) -> Iterator[Finding]:
    from ray_darts.cli import examination
    from ray_darts.cli.stores import open_named_store

    opened = None if store is None else open_named_store(store, overrides)
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("versions", examination.look_at_versions),
        ("devices", examination.look_at_devices),
        ("cluster", lambda: examination.look_at_cluster(address)),
        ("mathematics", examination.look_at_mathematics),
    ]
    if opened is not None:
        looks.insert(3, ("store", lambda: examination.look_at_store(opened)))
    for area, look in looks:
        yield from examination.whatever_breaks(area, look)


def _line(finding: Finding) -> str:
    advice = f"\n{'':<10}{finding.advice}" if finding.advice else ""
    return f"{finding.state:<10}{finding.area} {finding.name}: {finding.detail}{advice}"
