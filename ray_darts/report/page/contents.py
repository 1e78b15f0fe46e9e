"""What a page draws, as plain data: one entry per run with its curves, cells and probabilities, and shared drawings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_darts.artifacts.answer import SearchAnswer
from ray_darts.artifacts.architecture import architecture_of
from ray_darts.artifacts.experiment import space_layout
from ray_darts.artifacts.histories import RunHistory
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.status import state_of
from ray_darts.artifacts.trace_schema import parameter_kinds, row_names
from ray_darts.errors import CorruptObject, GenotypeError, MissingObject, PluginError
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import ALPHAS, SpaceLayout
from ray_darts.report.cells import cells_svg, cells_text
from ray_darts.report.page.alphas import Probabilities, ProbabilityReader
from ray_darts.report.page.facts import PageFacts
from ray_darts.report.page.thinning import thinned
from ray_darts.report.page.timeline import commits_of, terms_of
from ray_darts.tasks.metrics import EpochMetrics

_POINTS, _FEWEST, _MOST = 6000, 50, 400
_DRAWN, _FEWEST_DRAWN, _MOST_DRAWN = 1200, 12, 60
_DAMAGED = (CorruptObject, GenotypeError, MissingObject, PluginError, ValueError, OverflowError, RecursionError)
"""What damaged or foreign objects raise, here or in what decodes them."""

_LARGEST = 1e300
"""Larger numbers are no curve, and no JSON that a browser reads."""

Data = dict[str, Any]


class Contents:
    """Makes the data of a page; keeps drawings, and what it read of unfinished runs, from one page to the next."""

    def __init__(self, probabilities: ProbabilityReader) -> None:
        self._probabilities = probabilities
        self._drawn: dict[str, Data] = {}
        self._finished: dict[str, tuple[object, Data]] = {}

    def of(self, facts: PageFacts) -> Data:
        """All data. Raises: StoreError of a store that cannot be reached."""
        num_runs = max(1, len(facts.histories))
        points = max(_FEWEST, min(_MOST, _POINTS // num_runs - 10))
        drawn = max(_FEWEST_DRAWN, min(_MOST_DRAWN, _DRAWN // num_runs))
        drawings = _Drawings(self._drawn)
        layout = None if facts.description is None else space_layout(facts.description)
        runs = [self._run(history, layout, points, drawn, drawings) for history in facts.histories]
        trainings = [
            {"phase": each.description.experiment, **_training(history, points)}
            for each in facts.trainings
            for history in each.histories
        ]
        best = None if facts.best is None else drawings.number(facts.best.genotype)
        for run in runs:
            slider = run["slider"]
            if slider is not None:
                numbers = [drawings.number(genotype) for genotype in slider["genotypes"]]
                run["slider"] = {**{k: v for k, v in slider.items() if k != "genotypes"}, "drawings": numbers}
        data: Data = {"runs": runs, "trainings": trainings, "best": best, "drawings": drawings.all, "points": points}
        return data

    def _run(
        self, history: RunHistory, layout: SpaceLayout | None, points: int, drawn: int, drawings: _Drawings
    ) -> Data:
        """One run; a finished one is read once."""
        kept = len(history.records), history.records[-1].nonce if history.records else None, points, drawn
        known = self._finished.get(history.run)
        if known is not None and known[0] == kept:
            return dict(known[1])
        data = self._read(history, layout, points, drawn, drawings)
        if history.has_finished and not data["problems"]:
            self._finished[history.run] = kept, data
        return dict(data)

    def _read(
        self, history: RunHistory, layout: SpaceLayout | None, points: int, drawn: int, drawings: _Drawings
    ) -> Data:
        data: Data = {"run": history.run, **_curves(history.epochs, points), "problems": [], "slider": None}
        data["terms"] = [term._asdict() for term in terms_of(history.records)]
        commits = commits_of(history.records)
        data["commits"] = None if commits is None else commits._asdict()
        data["cells"] = _cells(history.epochs, points)
        data["warnings"] = [[epoch.epoch, epoch.warning] for epoch in history.epochs if epoch.warning]
        probabilities, data["alphas"] = None, None
        if layout is not None and layout.cells and history.records:
            try:
                probabilities, data["alphas"] = self._alphas(history, layout, points)
            except _DAMAGED as error:
                data["problems"].append(f"probabilities: {error}")
        try:
            data["slider"] = _slider(history, layout, probabilities, drawn, drawings)
        except _DAMAGED as error:
            data["problems"].append(f"cells: {error}")
        return data

    def _alphas(
        self, history: RunHistory, layout: SpaceLayout, points: int
    ) -> tuple[Probabilities | None, Data | None]:
        """(Probabilities after the kept steps, the thinned ones of each edge for a drawing)."""
        architecture = architecture_of(layout, history.description)
        keys = RunKeys(history.experiment, history.run)
        read = self._probabilities.read(keys, history.records, architecture)
        if not len(read.steps):
            return None, None
        shown = thinned(read.steps, read.values, points)
        names = row_names(architecture)
        is_alpha = names["parameter"] == parameter_kinds(architecture).index(ALPHAS)
        cells = []
        for number, cell in enumerate(layout.cells):
            columns = np.flatnonzero(is_alpha & (names["cell"] == number)).reshape(len(cell.edges), -1)
            edges = [
                {
                    "source": edge.source,
                    "target": edge.target,
                    "values": [_permille(shown.values[:, column]) for column in own],
                }
                for edge, own in zip(cell.edges, columns, strict=True)
            ]
            cells.append({"cell": cell.name, "operations": cell.operations, "inputs": cell.num_inputs, "edges": edges})
        drawn = {"steps": shown.steps.tolist(), "stride": shown.stride, "cells": cells}
        return read, {**drawn, "of": history.records[-1].step, "kept": len(read.steps)}


class _Drawings:
    """The drawings of one page, each once; `known` keeps them for the next page."""

    def __init__(self, known: dict[str, Data]) -> None:
        self._known = known
        self._numbers: dict[str, int] = {}
        self.all: list[Data] = []

    def known(self, genotype: Mapping[str, object]) -> Data:
        """The drawing of a genotype. Raises: GenotypeError."""
        text = json.dumps(genotype, sort_keys=True)
        if text not in self._known:
            checked = Genotype.from_data(genotype)
            self._known[text] = {"svg": cells_svg(checked), "text": cells_text(checked), "kept": _kept(checked)}
        return self._known[text]

    def number(self, genotype: Mapping[str, object]) -> int:
        """The place of a genotype's drawing in `all`. Raises: GenotypeError."""
        text = json.dumps(genotype, sort_keys=True)
        if text not in self._numbers:
            self._numbers[text] = len(self.all)
            self.all.append(self.known(genotype))
        return self._numbers[text]


def _kept(genotype: Genotype) -> list[list[object]]:
    return [
        [cell.name, cell.num_inputs + index, source, operation]
        for cell in genotype.cells
        for index, node in enumerate(cell.nodes)
        for operation, source in node
    ]


def _slider(
    history: RunHistory,
    layout: SpaceLayout | None,
    probabilities: Probabilities | None,
    most: int,
    drawings: _Drawings,
) -> Data | None:
    """The cell after some epochs, the last one among them, and the probability of each kept edge there."""
    shown: list[tuple[int | None, int, dict[str, object]]] = [
        (epoch.epoch, epoch.step, json.loads(epoch.genotype)) for epoch in history.epochs if epoch.genotype is not None
    ]
    of = len(shown)
    if of > most:
        shown = [shown[round(place * (of - 1) / (most - 1))] for place in range(most)]
    genotype = history.genotype()
    if genotype is not None and (not shown or shown[-1][2] != genotype.to_data()):
        step = SearchAnswer.of(history.records[-1], history.run).genotype_step
        shown.append((None, step, genotype.to_data()))
    if not shown:
        return None
    places = {} if layout is None else _places(history, layout)
    weights: list[list[int | None] | None] = []
    for _, step, genotype_data in shown:
        kept = drawings.known(genotype_data)["kept"]
        values = None if probabilities is None else probabilities.after(step)
        if values is None:
            weights.append(None)
            continue
        row = _permille(values)
        at = (places.get((cell, target, source, operation)) for cell, target, source, operation in kept)
        weights.append([None if number is None else row[number] for number in at])
    return {
        "epochs": [epoch for epoch, _, _ in shown],
        "steps": [step for _, step, _ in shown],
        "genotypes": [genotype_data for _, _, genotype_data in shown],
        "weights": weights,
        "of": of,
    }


def _places(history: RunHistory, layout: SpaceLayout) -> dict[tuple[str, int, int, str], int]:
    """{(cell, target, source, operation): its number in a row of probabilities}."""
    places: dict[tuple[str, int, int, str], int] = {}
    start = 0
    for group in architecture_of(layout, history.description).groups:
        if group.kind == ALPHAS:
            cell = layout.cell(group.cell)
            keys = (
                (cell.name, edge.target, edge.source, operation) for edge in cell.edges for operation in cell.operations
            )
            places.update((key, number) for number, key in enumerate(keys, start=start))
        start += group.size
    return places


def _curves(epochs: Sequence[EpochMetrics], most: int) -> Data:
    """Every number of every epoch, {name: values}; at most `most` epochs, evenly spaced, the last one among them."""
    kept = _evenly(epochs, most)
    rows = [epoch.model_dump(exclude={"cells", "genotype", "warning"}) for epoch in kept]
    names = dict.fromkeys(name for row in rows for name in row)
    series = {name: [_short(row.get(name)) for row in rows] for name in names}
    return {"curves": {name: values for name, values in series.items() if any(v is not None for v in values)}}


def _cells(epochs: Sequence[EpochMetrics], most: int) -> Data:
    """{cell: {entropy, skips, parameter_free, margin (the least): a value per epoch}}."""
    kept = [epoch for epoch in _evenly(epochs, most) if epoch.cells]
    names = dict.fromkeys(name for epoch in kept for name in epoch.cells)
    found: Data = {"epoch": [epoch.epoch for epoch in kept]}
    for name in names:
        own = [epoch.cells.get(name) for epoch in kept]
        found[name] = {
            "entropy": [None if cell is None else _short(cell.entropy) for cell in own],
            "skips": [None if cell is None else cell.skips for cell in own],
            "parameter_free": [None if cell is None else cell.parameter_free for cell in own],
            "margin": [None if cell is None else _least(cell.margins) for cell in own],
        }
    return found


def _training(history: RunHistory, most: int) -> Data:
    metric = history.metric
    value = None if metric is None else {"name": metric.name, "value": _short(metric.value)}
    return {"run": history.run, "state": state_of(history.last), "metric": value, **_curves(history.epochs, most)}


def _least(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _short(min(known)) if known else None


def _evenly(epochs: Sequence[EpochMetrics], most: int) -> list[EpochMetrics]:
    if len(epochs) <= most:
        return list(epochs)
    return [epochs[round(place * (len(epochs) - 1) / (most - 1))] for place in range(most)]


def _permille(values: NDArray[np.float32]) -> list[int | None]:
    """Probabilities in thousandths; None where there is no number."""
    unknown = ~np.isfinite(values)
    if not unknown.any():
        whole: list[int | None] = np.rint(values * 1000).astype(np.int32).tolist()
        return whole
    return [round(value * 1000) if math.isfinite(value) else None for value in values.tolist()]


def _short(value: object) -> float | None:
    """A number of five digits for a drawing."""
    if not isinstance(value, int | float) or not -_LARGEST <= value <= _LARGEST:  # also NaN
        return None
    return value if isinstance(value, int) else float(f"{value:.5g}")
