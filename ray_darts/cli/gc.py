"""`ray-darts gc`: shows what an experiment keeps without need, per kind of thing; deletes it on request."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ExperimentName, Json, Plugins, Store, StoreOverrides
from ray_darts.cli.output import show_result
from ray_darts.exit_codes import FAILED
from ray_darts.report.amounts import bytes_text, counted

if TYPE_CHECKING:
    from ray_darts.artifacts.collect import Collection

_MOST_SHOWN = 20


def gc(
    experiment: ExperimentName,
    store: Store = DEFAULT_STORE,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; without it nothing is changed.")] = False,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact",
            help="Finished runs let go of the parts that their published trace repeats; first the two are compared.",
        ),
    ] = False,
    keep_finished_checkpoints: Annotated[
        int,
        typer.Option(
            "--keep-finished-checkpoints", min=0, metavar="N", help="Of a finished run keep the newest N checkpoints."
        ),
    ] = 1,
    min_age_hours: Annotated[
        float, typer.Option("--min-age-hours", min=0, help="Keep younger objects, by the store's clock.")
    ] = 24.0,
    overrides: StoreOverrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Show or delete objects that nothing refers to, and temporary files that killed processes left in a folder.

    With --compact or --keep-finished-checkpoints 0 the log of a finished run first says what is let go: `verify` then
    checks the published documents that stand for it, which nothing can make again. Records of the logs, descriptions
    and publications are never deleted. Exit 1 where a run was left as it is because something of it is not as written.
    """
    from ray_darts.artifacts.collect import collect_experiment
    from ray_darts.cli.stores import open_named_experiment
    from ray_darts.protocols.registry import load_plugins

    load_plugins(plugins or ())
    opened = open_named_experiment(store, experiment, overrides)
    found = collect_experiment(
        opened.store,
        experiment,
        min_age_hours * 3600,
        delete,
        compact=compact,
        keep_finished_checkpoints=keep_finished_checkpoints,
    )
    data = {
        "experiment": experiment,
        "deleted": found.deleted,
        "num_objects": found.num_objects,
        "num_bytes": found.num_bytes,
        "kinds": {kind: asdict(amount) for kind, amount in found.kinds.items()},
        "compacted": found.compacted,
        "problems": found.problems,
        "garbage": [entry._asdict() for entry in found.garbage],
    }
    show_result(_text(found), data, as_json)
    if found.problems:
        raise typer.Exit(FAILED)


def _text(found: Collection) -> str:
    lines = [f"{bytes_text(entry.num_bytes):>10}  {entry.key}" for entry in found.garbage[:_MOST_SHOWN]]
    if found.num_objects > len(lines):
        lines.append(f"{'…':>10}  and {_objects(found.num_objects - len(lines))} more")
    lines += [
        f"{bytes_text(amount.num_bytes):>10}  {_objects(amount.objects):>17}  {kind}"
        for kind, amount in found.kinds.items()
    ]
    if found.compacted:
        say = "now say" if found.deleted else "would say"
        lines.append(f"the logs of {counted(found.compacted, 'finished run')} {say} that something is let go")
    lines += [f"{run}: left as it is: {why}" for run, why in found.problems.items()]
    if not found.num_objects:
        return "\n".join([*lines, "nothing to collect"])
    size = f"{_objects(found.num_objects)}, {bytes_text(found.num_bytes)}"
    return "\n".join([*lines, f"{size}: deleted" if found.deleted else f"{size}; --delete removes them"])


def _objects(number: int) -> str:
    return f"{number:,} object{'s' * (number != 1)}"
