"""`ray-darts search`: one command that starts, continues or, when all is done, prints the result of a search."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ConfigFile, Json, Overrides, Preset, Store
from ray_darts.cli.output import show_result


def search(
    preset: Preset = None,
    config: ConfigFile = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="EXP", help="Name of the experiment; absent: preset and digest.")
    ] = None,
    store: Store = DEFAULT_STORE,
    seeds: Annotated[str, typer.Option("--seeds", help="How many (4 is seeds 0 to 3), or a list: 0,3,7.")] = "4",
    orders: Annotated[str, typer.Option("--orders", help="Gradient orders to search with.")] = "first,second",
    workers: Annotated[
        str | None, typer.Option("--workers", metavar="N", help="Workers per run, or MIN:MAX for elastic ones.")
    ] = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option("--max-concurrent", metavar="N", help="Runs at a time; absent: what the cluster holds."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try runs again that failed for good.")] = False,
    allow_local_batch_norm: Annotated[
        bool,
        typer.Option("--allow-local-batch-norm", help="Accept another number of workers than a run began with."),
    ] = False,
    address: Annotated[
        str | None, typer.Option("--address", metavar="RAY", help="Address of a Ray cluster; absent: this machine.")
    ] = None,
    max_hours: Annotated[
        float | None, typer.Option("--max-hours", help="Stop, resumable, after this many hours.")
    ] = None,
    max_worker_hours: Annotated[
        float | None, typer.Option("--max-worker-hours", help="Stop, resumable, after this many hours of workers.")
    ] = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell runs, steps, memory, time and cost; write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search with every seed and order in parallel.

    The same command again continues what is unfinished and prints the result when all is done.
    """
    from ray_darts.cli.request import read_request

    given = {
        "workers": workers,
        "max_concurrent": max_concurrent,
        "max_hours": max_hours,
        "max_worker_hours": max_worker_hours,
    }
    flags = [f"operation.{field}={value}" for field, value in given.items() if value is not None]
    asked = read_request(
        preset,
        config,
        name,
        seeds,
        orders,
        [*(overrides or []), *flags],
        store=store,
        retry_failed=retry_failed,
        allow_local_batch_norm=allow_local_batch_norm,
        address=address,
    )
    if dry_run:
        from ray_darts.cli.dry_run import estimate_request

        estimate = estimate_request(asked)
        show_result(estimate.text(), estimate.to_data(), as_json)
        return
    from ray_darts.cli.sweep import run_request

    answer = run_request(asked)
    show_result(answer.text(), answer.to_data(), as_json)
    raise typer.Exit(answer.exit_code)
