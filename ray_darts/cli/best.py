"""`ray-darts best`: the best genotype of an experiment, in one GET. Imports neither torch nor ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, ExperimentName, Json, Output, Plugins, Store, StoreOverrides
from ray_darts.cli.output import report_line, show_result, write_file

if TYPE_CHECKING:
    from ray_darts.artifacts.best import Best

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
    overrides: StoreOverrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Print the best genotype so far.

    Its run, its metric and what the run's last epoch warned of are printed on stderr.
    """
    from ray_darts.api import Experiment, write_text
    from ray_darts.cli.stores import open_named_store
    from ray_darts.protocols.registry import load_plugins

    load_plugins(plugins or ())
    form = _known(form)
    found = Experiment(open_named_store(store, overrides), experiment).best(verify)
    text = write_text(found) if form == "text" else found.architecture().to_json()
    report_line(f"{found.run}, step {found.genotype_step}: {metric_text(found, verify)}")
    if found.warning is not None:
        report_line(f"warning: {found.run}: {found.warning}")
    if output is not None:
        write_file(output, text + "\n")
        report_line(f"genotype in {output}")
    if as_json or output is None:
        show_result(text, found.model_dump(mode="json"), as_json)


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
