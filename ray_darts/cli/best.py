"""`ray-darts best`: the answer of an experiment in one GET. Imports neither torch nor ray."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ray_darts.cli.options import DEFAULT_STORE, Experiment, Json, Output, Store, StoreOverrides
from ray_darts.cli.output import show_result, tell, write_file

if TYPE_CHECKING:
    from ray_darts.artifacts.best import Best


class Format(StrEnum):
    """How a genotype is written: our JSON, or the reference implementation's Python literal."""

    json = "json"
    darts = "darts"


def best(
    experiment: Experiment,
    store: Store = DEFAULT_STORE,
    form: Annotated[
        Format, typer.Option("--format", help="JSON, or the reference's Genotype(...) text.")
    ] = Format.json,
    output: Output = None,
    verify: Annotated[bool, typer.Option("--verify", help="Also read the record it comes from, and compare.")] = False,
    overrides: StoreOverrides = None,
    as_json: Json = False,
) -> None:
    """Print the best genotype so far.

    Where it comes from goes to stderr.
    """
    from ray_darts.artifacts.best import read_best
    from ray_darts.cli.stores import open_named_store

    found = read_best(open_named_store(store, overrides), experiment, verify)
    text = _written(found, form)
    tell(_story(found, verify))
    if output is not None:
        write_file(output, text + "\n")
        tell(f"genotype in {output}")
    if as_json or output is None:
        show_result(text, found.model_dump(mode="json"), as_json)


def _written(found: Best, form: Format) -> str:
    from ray_darts.genotype.darts_text import to_darts

    genotype = found.architecture()
    return to_darts(genotype) if form is Format.darts else genotype.to_json()


def _story(found: Best, verified: bool) -> str:
    metric = found.metric
    value = "not finite" if metric.value is None else f"{metric.value:.6g}"
    checked = ", verified" if verified else ""
    return f"{found.run}, step {found.genotype_step}: {metric.name} {value} ({metric.ranking} ranking{checked})"
