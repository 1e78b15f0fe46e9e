"""`ray-darts best`: the best genotype of an experiment, in one GET. Imports neither torch nor ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ExperimentName, Figures, Json, Output, Plugins, Store, StoreOverrides
from ray_darts.cli.output import report_line, show_result
from ray_darts.output_files import STANDARD_OUTPUT, write_file

if TYPE_CHECKING:
    from ray_darts.artifacts.best import Best
    from ray_darts.artifacts.objects import ObjectStore

FORMATS = ("json", "text")


def best(
    experiment: ExperimentName,
    store: Store = DEFAULT_STORE,
    form: Annotated[
        str, typer.Option("--format", metavar="json|text", help="JSON, or the text form of the genotype's space.")
    ] = "json",
    output: Output = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also read the finish record of its run, and compare.")
    ] = False,
    stability: Annotated[
        bool,
        typer.Option("--stability", help="Also read all logs: how much the runs agree, how decided their alphas are."),
    ] = False,
    figures: Figures = None,
    overrides: StoreOverrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Print the best genotype so far.

    Its run, its metric and what the run's last epoch warned of are printed on stderr, and what else is asked for.
    """
    from ray_darts.api import Experiment, write_text
    from ray_darts.cli.stores import open_named_store
    from ray_darts.protocols.registry import load_plugins

    load_plugins(plugins or ())
    form = _known(form)
    opened = open_named_store(store, overrides)
    found = Experiment(opened, experiment).best(verify)
    data = found.model_dump(mode="json")
    text = write_text(found) if form == "text" else found.architecture().to_json()
    report_line(f"{found.run}, step {found.genotype_step}: {metric_text(found, verify)}")
    if found.warning is not None:
        report_line(f"warning: {found.run}: {found.warning}")
    if stability:
        data["stability"] = _report_stability(opened, experiment)
    if figures is not None:
        data["network"] = _report_figures(figures, found, store)
    if output is not None and output != STANDARD_OUTPUT:
        write_file(output, text + "\n")
        report_line(f"genotype in {output}")
    if as_json or output in (None, STANDARD_OUTPUT):
        show_result(text, data, as_json)


def _report_stability(store: ObjectStore, experiment: str) -> dict[str, object]:
    """Print the stability of the search on stderr; returns it as plain data."""
    from ray_darts.artifacts.histories import read_histories
    from ray_darts.report.stability import stability_of, stability_text

    measured = stability_of(read_histories(store, experiment))
    report_line(stability_text(measured))
    return measured.to_data()


def _report_figures(preset: str, found: Best, store_uri: str) -> dict[str, object]:
    """Print the figures of the network on stderr; returns them as plain data."""
    from ray_darts.architectures import Architecture
    from ray_darts.cli.figures import figures_for_preset

    origin = f"{found.experiment}, run {found.run}"
    architecture = Architecture(found.architecture(), origin, found.experiment, found.run, store_uri)
    text, data = figures_for_preset(preset, architecture)
    report_line(text)
    return data


def metric_text(found: Best, verified: bool = False) -> str:
    """`supernet_validation_accuracy 0.93 (interim ranking)`."""
    metric = found.metric
    value = "not finite" if metric.value is None else f"{metric.value:.6g}"
    return f"{metric.name} {value} ({metric.ranking} ranking{', verified' if verified else ''})"


def _known(form: str) -> str:
    """The format of this name; the name of release 0.1 with a warning. Raises: ConfigError."""
    from ray_darts.errors import ConfigError

    if form == "darts":
        report_line("warning: --format darts is now --format text; the old name goes in 0.3")
        return "text"
    if form not in FORMATS:
        raise ConfigError(f"--format {form!r}: wanted {' or '.join(FORMATS)}")
    return form
