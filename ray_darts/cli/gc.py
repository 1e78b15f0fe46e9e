"""`ray-darts gc`: lists objects that no record refers to and no writer can still refer to; deletes them on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ExperimentName, Json, Store, StoreOverrides
from ray_darts.cli.output import show_result
from ray_darts.report.amounts import bytes_text

if TYPE_CHECKING:
    from ray_darts.artifacts.collect import Collection


def gc(
    experiment: ExperimentName,
    store: Store = DEFAULT_STORE,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; without it nothing is changed.")] = False,
    min_age_hours: Annotated[
        float, typer.Option("--min-age-hours", min=0, help="Keep younger objects, by the store's clock.")
    ] = 24.0,
    overrides: StoreOverrides = None,
    as_json: Json = False,
) -> None:
    """List or delete objects that nothing refers to, and temporary files that killed processes left in a folder.

    Records of the logs, descriptions and publications are never deleted.
    """
    from ray_darts.artifacts.collect import collect_experiment
    from ray_darts.cli.stores import open_named_experiment

    opened = open_named_experiment(store, experiment, overrides)
    found = collect_experiment(opened.store, experiment, min_age_hours * 3600, delete)
    data = {
        "experiment": experiment,
        "deleted": found.deleted,
        "num_bytes": found.num_bytes,
        "garbage": [entry._asdict() for entry in found.garbage],
    }
    show_result(_text(found), data, as_json)


def _text(found: Collection) -> str:
    lines = [f"{bytes_text(entry.num_bytes):>10}  {entry.key}" for entry in found.garbage]
    size = f"{len(found.garbage)} objects, {bytes_text(found.num_bytes)}"
    if not found.garbage:
        return "nothing to collect"
    return "\n".join([*lines, f"{size}: deleted" if found.deleted else f"{size}; --delete removes them"])
