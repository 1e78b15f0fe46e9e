"""`ray-darts train`: trains architectures from scratch and tests them once; prints mean and spread over seeds."""

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


def train(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT…",
            help="An experiment (its best), a genotype file, a URI of either, a published name; or several.",
        ),
    ],
    preset: Preset = None,
    config: ConfigFile = None,
    name: Name = None,
    store: Store = DEFAULT_STORE,
    seeds: Annotated[str, typer.Option("--seeds", help="How many (3 is seeds 0 to 2), or a list: 0,3,7.")] = "3",
    workers: Workers = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option("--max-concurrent", metavar="N", help="Worker groups at a time; absent: what the cluster holds."),
    ] = None,
    max_parameters: Annotated[
        int | None, typer.Option("--max-parameters", metavar="N", help="Refuse a larger network.")
    ] = None,
    max_multiply_adds: Annotated[
        int | None, typer.Option("--max-multiply-adds", metavar="N", help="Refuse a costlier network.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train failed runs again.")] = False,
    allow_world_size_change: AllowWorldSizeChange = False,
    address: Address = None,
    max_hours: MaxHours = None,
    max_worker_hours: MaxWorkerHours = None,
    max_cost: MaxCost = None,
    overrides: Overrides = None,
    on_end: OnEnd = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train architectures from scratch with every seed; each run opens the test set once, at its end.

    The same command again continues unfinished runs and prints the result when all have finished.
    """
    from ray_darts.cli.notification import check_url, notifying
    from ray_darts.cli.training import request_of, result_data, result_text, tell_result, train_and_report

    check_url(on_end)
    request, budget = request_of(
        what,
        preset=preset,
        config=config,
        name=name,
        seeds=seeds,
        overrides=overrides,
        store=store,
        operation={
            "workers": workers,
            "max_concurrent": max_concurrent,
            "max_hours": max_hours,
            "max_worker_hours": max_worker_hours,
            "max_cost": max_cost,
        },
        max_parameters=max_parameters,
        max_multiply_adds=max_multiply_adds,
        retry_failed=retry_failed,
        allow_world_size_change=allow_world_size_change,
        address=address,
    )
    with notifying(on_end, request.experiment, request.store_uri) as notification:
        result = train_and_report(request, budget, quiet)
        tell_result(notification, result)
    show_result(result_text(result), result_data(result), as_json)
    raise typer.Exit(result.exit_code)
