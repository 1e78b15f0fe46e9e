"""`ray-darts search`: starts or continues a search; when all runs have finished, prints the result."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_darts.cli.options import (
    DEFAULT_STORE,
    Address,
    AllowWorldSizeChange,
    ConfigFile,
    Json,
    MaxCost,
    MaxHours,
    MaxWorkerHours,
    Name,
    OnEnd,
    Overrides,
    Preset,
    Quiet,
    Store,
    Workers,
)
from ray_darts.cli.output import show_result


def search(
    preset: Preset = None,
    config: ConfigFile = None,
    name: Name = None,
    store: Store = DEFAULT_STORE,
    seeds: Annotated[str, typer.Option("--seeds", help="How many (4 is seeds 0 to 3), or a list: 0,3,7.")] = "4",
    methods: Annotated[
        str | None,
        typer.Option("--methods", help="Names of search methods, separated by commas; absent: the config's."),
    ] = None,
    orders: Annotated[
        str | None,
        typer.Option("--orders", help="Gradient orders, such as first,second; absent: all that a method defines."),
    ] = None,
    workers: Workers = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option("--max-concurrent", metavar="N", help="Runs at a time; absent: what the cluster holds."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Search failed runs again.")] = False,
    allow_world_size_change: AllowWorldSizeChange = False,
    allow_local_batch_norm: Annotated[bool, typer.Option("--allow-local-batch-norm", hidden=True)] = False,
    address: Address = None,
    select: Annotated[
        bool,
        typer.Option("--select", help="Then train each found cell briefly from scratch, and rank by that."),
    ] = False,
    max_parameters: Annotated[
        int | None, typer.Option("--max-parameters", metavar="N", help="Select no cell with a larger network.")
    ] = None,
    max_multiply_adds: Annotated[
        int | None, typer.Option("--max-multiply-adds", metavar="N", help="Select no cell with a costlier network.")
    ] = None,
    max_hours: MaxHours = None,
    max_worker_hours: MaxWorkerHours = None,
    max_cost: MaxCost = None,
    overrides: Overrides = None,
    on_end: OnEnd = None,
    quiet: Quiet = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print runs, steps, memory, time and cost; write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search with every method, seed and order in parallel.

    The same command again continues unfinished runs and prints the result when all have finished.
    """
    from ray_darts.cli.notification import check_url, notifying
    from ray_darts.cli.request import read_request

    check_url(on_end)
    request = read_request(
        preset=preset,
        config=config,
        name=name,
        seeds=seeds,
        methods=methods,
        orders=orders,
        overrides=overrides,
        store=store,
        workers=workers,
        max_concurrent=max_concurrent,
        select=select,
        max_parameters=max_parameters,
        max_multiply_adds=max_multiply_adds,
        max_hours=max_hours,
        max_worker_hours=max_worker_hours,
        max_cost=max_cost,
        retry_failed=retry_failed,
        allow_world_size_change=allow_world_size_change,
        allow_local_batch_norm=allow_local_batch_norm,
        address=address,
    )
    if dry_run:
        from ray_darts.cli.dry_run import estimate_request

        estimate = estimate_request(request)
        show_result(estimate.text(), estimate.to_data(), as_json)
        return
    from ray_darts.cli.sweep import result_data, result_text, search_and_report, tell_result

    with notifying(on_end, request.experiment, request.store_uri) as notification:
        result = search_and_report(request, quiet)
        tell_result(notification, result)
    show_result(result_text(result), result_data(result), as_json)
    raise typer.Exit(result.exit_code)
