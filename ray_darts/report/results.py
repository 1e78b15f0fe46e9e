"""Prints the results of trainings as a table: one line per genotype, best first. Knows no store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_darts.artifacts.results import GenotypeResult, TrainingResults
    from ray_darts.artifacts.spread import Spread

_DECIMALS = 4
_MOST_DECIMALS = 6


def spread_text(spread: Spread) -> str:
    """`0.9721 ± 0.0031 (n=3), median 0.972 [0.970, 0.975]`: mean and sample deviation with two digits of the latter;
    median and quartiles, with one decimal less where these are more than three."""
    if spread.mean is None:
        return "no value"
    decimals = decimals_of(spread.deviation)
    if spread.deviation is None:
        return f"{spread.mean:.{decimals}f} (n=1)"
    fewer = decimals - 1 if decimals > 3 else decimals
    median, lower, upper = (
        f"{value:.{fewer}f}" for value in (spread.median, spread.lower_quartile, spread.upper_quartile)
    )
    mean = f"{spread.mean:.{decimals}f} ± {spread.deviation:.{decimals}f} (n={spread.count})"
    return f"{mean}, median {median} [{lower}, {upper}]"


def decimals_of(deviation: float | None) -> int:
    """Decimals that show two digits of a deviation; 4 where there is none."""
    if not deviation:
        return _DECIMALS
    return min(_MOST_DECIMALS, max(0, 1 - math.floor(math.log10(deviation))))


def results_text(results: TrainingResults) -> str:
    """A heading and an aligned line per genotype, best first; failed and unfinished runs are named below."""
    if not results.genotypes:
        return f"{results.experiment}: no run has been started yet"
    rows = [_row(result) for result in results.ranked()]
    runs = [run for result in results.genotypes for run in result.runs if run.state != "finished"]
    reasons = [
        f"{run.run} failed: {run.failure.kind}: {run.failure.detail}"
        if run.failure is not None
        else f"{run.run} has not finished"
        for run in runs
    ]
    return "\n".join([_heading(results), *aligned([("genotype", "parameters", "metric", "runs"), *rows]), *reasons])


def _heading(results: TrainingResults) -> str:
    if results.metric is None:
        return f"{results.experiment}: no run has finished yet"
    better = "higher" if results.metric.direction == "max" else "lower"
    return (
        f"{results.experiment}: {results.metric.name} ({better} is better; mean ± sample deviation over seeds, "
        "median [quartiles])"
    )


def _row(result: GenotypeResult) -> tuple[str, str, str, str]:
    states = [f"{result.finished} finished"]
    states += [f"{count} {what}" for count, what in ((result.failed, "failed"), (result.unfinished, "open")) if count]
    parameters = "" if result.parameters is None else f"{result.parameters:,}"
    return result.name, parameters, spread_text(result.spread), ", ".join(states)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text as lines with columns of equal width, two blanks apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
