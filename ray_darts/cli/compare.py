"""`ray-darts compare`: which of several results is better, from the store alone. Imports neither torch nor ray."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, Json, Plugins, Store, StoreOverrides
from ray_darts.cli.output import report_line, show_result


def compare(
    items: Annotated[
        list[str],
        typer.Argument(
            metavar="ITEM...",
            help="Experiments: EXP of --store, s3://bucket/prefix/EXP, or EXP:GENOTYPE for one cell of trainings.",
            show_default=False,
        ),
    ],
    store: Store = DEFAULT_STORE,
    random: Annotated[
        str | None,
        typer.Option("--random", metavar="ITEM", help="Print the relative improvement over this item's average."),
    ] = None,
    by_method: Annotated[
        bool, typer.Option("--by-method", help="Compare all cells of each method of a search, not its best cell.")
    ] = False,
    overrides: StoreOverrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Compare trained results; a search by its selection.

    Refuses (exit 2) results on other data or by another metric; warns of another protocol or budget.
    """
    from ray_darts.cli.stores import open_named_store
    from ray_darts.protocols.registry import load_plugins
    from ray_darts.report.comparison import compare as compare_items
    from ray_darts.report.comparison_text import comparison_text

    load_plugins(plugins or ())
    opened = open_named_store(store, overrides)
    comparison = compare_items(
        items, opened, random=random, by_method=by_method, opener=lambda uri: open_named_store(uri, overrides)
    )
    for warning in comparison.warnings:
        report_line(f"warning: {warning}")
    show_result(comparison_text(comparison), comparison.to_data(), as_json)
