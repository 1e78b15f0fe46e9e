"""The ranking of a search's cells after a short training each, as lines for people and as data.

Random search is the best of the drawn cells, random sampling their mean: both stand beside the searched ones.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING

from ray_darts.report.amounts import counted
from ray_darts.report.results import aligned
from ray_darts.report.seeds import RunGroup

if TYPE_CHECKING:
    from ray_darts.orchestration.selection import SelectedRun, SelectionResult

_MOST_LINES = 40


def selection_lines(result: SelectionResult) -> list[str]:
    """One line for each run, the best first, and one for each group of runs (a method, an order)."""
    rows = [("run", "cell", result.metric, "parameters")]
    for row in result.runs[:_MOST_LINES]:
        value = row.note or ("not finite" if row.value is None else f"{row.value:.6g}")
        rows.append((row.run, row.cell, value, "" if row.parameters is None else f"{row.parameters:,}"))
    lines = aligned(rows)
    if len(result.runs) > _MOST_LINES:
        lines.append(f"… and {len(result.runs) - _MOST_LINES} more")
    head = f"selection: {result.trained} distinct cells of {len(result.runs)} runs, the best first"
    return [head, *lines, *(f"{name}: {text}" for name, text in _groups(result).items())]


def selection_data(result: SelectionResult) -> dict[str, object]:
    """Plain JSON-able data."""
    return {
        "metric": result.metric,
        "direction": result.direction,
        "distinct_cells": result.trained,
        "runs": [dataclasses.asdict(row) for row in result.runs],
        "outcomes": {run: outcome.to_plain() for run, outcome in result.outcomes.items()},
    }


def _groups(result: SelectionResult) -> dict[str, str]:
    """{group: best, mean and deviation of its cells}."""
    groups: dict[str, list[float]] = {}
    for row in result.runs:
        if row.value is not None:
            groups.setdefault(_group(row), []).append(row.value)
    better = max if result.direction == "max" else min
    texts = {}
    for name, values in groups.items():
        spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
        cells = counted(len(values), "cell")
        texts[name] = f"best {better(values):.4g}, mean {statistics.fmean(values):.4g}{spread} ({cells})"
    return texts


def _group(row: SelectedRun) -> str:
    """The group of its run; of a method without an order, which samples, also what best and mean are."""
    title = RunGroup.of(row.run, row.seed, row.order).title
    return title if row.order is not None else f"{title} (best: {title} search, mean: {title} sampling)"
