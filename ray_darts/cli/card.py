"""`ray-darts card`: one document about an experiment, from the store alone. Imports neither torch nor ray."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ExperimentName, Json, Output, Plugins, Store, StoreOverrides
from ray_darts.cli.output import report_line, show_result
from ray_darts.output_files import STANDARD_OUTPUT, write_file


def card(
    experiment: ExperimentName,
    store: Store = DEFAULT_STORE,
    training: Annotated[
        str | None,
        typer.Option("--training", metavar="EXP", help="The experiment in which the found cells were trained."),
    ] = None,
    output: Output = None,
    overrides: StoreOverrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write the card of a search: what the store says about each practice of good research (arXiv:1909.02453)."""
    from ray_darts.cli.stores import open_named_experiment
    from ray_darts.protocols.registry import load_plugins
    from ray_darts.report.card import card_markdown, make_card
    from ray_darts.report.card_facts import read_card_facts

    load_plugins(plugins or ())
    opened = open_named_experiment(store, experiment, overrides)
    made = make_card(read_card_facts(opened.store, experiment, training))
    text = card_markdown(made)
    if output is not None and output != STANDARD_OUTPUT:
        write_file(output, text)
        report_line(f"card in {output}")
    if as_json or output in (None, STANDARD_OUTPUT):
        show_result(text, made.to_data(), as_json)
