"""`ray-darts report`: the page of an experiment, as a file, rewritten while it is searched, or served."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ExperimentName, Json, Plugins, Store, StoreOverrides
from ray_darts.cli.output import report_line, show_result
from ray_darts.errors import ConfigError, StoreUnavailable
from ray_darts.messages import shown_message
from ray_darts.output_files import STANDARD_OUTPUT, write_file

if TYPE_CHECKING:
    from ray_darts.artifacts.objects import ObjectStore
    from ray_darts.report.page.making import Page, PageMaker
    from ray_darts.report.page.verdict import Figures

LOOPBACK = "127.0.0.1"


def report(
    experiment: ExperimentName,
    store: Store = DEFAULT_STORE,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="The file; absent: EXP.html in this folder.")
    ] = None,
    training: Annotated[
        str | None, typer.Option("--training", metavar="EXP", help="The experiment of trainings of what it found.")
    ] = None,
    figures: Annotated[
        str | None,
        typer.Option(
            "--figures", metavar="PRESET", help="Add the size of each cell's network of this training preset."
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Write the page again until all runs have ended.")] = False,
    every: Annotated[
        float, typer.Option("--every", min=1, max=86_400, metavar="SECONDS", help="How often --watch and --serve read.")
    ] = 10.0,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the page and /report.json over HTTP.")] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, metavar="N", help="Port of --serve; 0: any free one.")
    ] = 8300,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address of --serve; another than this machine: a token.")
    ] = LOOPBACK,
    token: Annotated[
        str | None, typer.Option("--token", metavar="TEXT", help="What requests to --serve must have; absent: made.")
    ] = None,
    overrides: StoreOverrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write the page of an experiment: one HTML file that opens without network, while it is searched or years later.

    Needs the extra `report`. Reads the store alone.
    """
    from ray_darts.cli.stores import open_named_store
    from ray_darts.protocols.registry import load_plugins
    from ray_darts.report.page.making import PageMaker

    if serve and (watch or output is not None):
        raise ConfigError("--serve writes no file: leave --watch and --output out")
    if watch and output == STANDARD_OUTPUT:
        raise ConfigError("--watch writes the file again and again: name a file with --output")
    load_plugins(plugins or ())
    opened = open_named_store(store, overrides)
    maker = PageMaker(opened, experiment, training, _figures(figures, opened, experiment))
    if serve:
        _serve(maker, host, port, token, every)
        return
    place = output or Path(f"{experiment.replace('/', '-')}.html")
    page = maker.make(every if watch else None)
    _write(page, place, as_json)
    while watch and not page.facts.is_over:
        time.sleep(every)
        try:
            page = maker.make(every)
        except StoreUnavailable as error:
            report_line(f"warning: the page is as old as it was: {shown_message(str(error))}")
            continue
        write_file(place, page.html)
    if watch:
        report_line("all runs have ended")


def _write(page: Page, place: Path, as_json: bool) -> None:
    write_file(place, page.html)
    if place == STANDARD_OUTPUT:
        return
    problems = len(page.facts.problems)
    data = {"page": str(place), "bytes": len(page.html.encode()), "problems": list(page.facts.problems)}
    text = f"{place}: {len(page.html.encode()):,} bytes, {len(page.facts.histories)} runs"
    show_result(text + (f"; {problems} missing or damaged, which the page names" if problems else ""), data, as_json)


def _serve(maker: PageMaker, host: str, port: int, token: str | None, every: float) -> None:
    from ray_darts.hosts import is_loopback
    from ray_darts.report.page.serving import PageServer

    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    server = PageServer(lambda: maker.make(every), host, port, token, every)
    report_line(f"serving {server.url} until Ctrl-C")
    server.serve()


def _figures(preset: str | None, store: ObjectStore, experiment: str) -> Figures:
    """The size of the network of every cell that was found. Raises: ConfigError."""
    if preset is None:
        return {}
    from ray_darts.architectures import Architecture, check_fits
    from ray_darts.artifacts.selected import finished_searches
    from ray_darts.cli.figures import data_facts
    from ray_darts.config import load_training_config
    from ray_darts.genotype.canonical import canonical
    from ray_darts.training.figures import network_figures

    config = load_training_config(preset)
    found: dict[str, tuple[int, int]] = {}
    facts = None
    for each in finished_searches(store, experiment):
        name = canonical(each.genotype)
        architecture = Architecture(each.genotype, experiment, experiment, each.description.run, store.uri)
        check_fits(architecture, config.network.kind)
        if facts is None:
            facts, _ = data_facts(config, architecture, {})
        if name not in found:
            figures = network_figures(config, each.genotype, facts)
            found[name] = figures.parameters, figures.multiply_adds
    return found
