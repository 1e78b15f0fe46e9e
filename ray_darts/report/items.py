"""Reads what `compare` is given: cells of experiments of trainings, and what searches found, as sides to compare.

A word names an experiment of the store, `s3://bucket/prefix/EXP` one of another store, `EXP:GENOTYPE` one cell of an
experiment of trainings. What a search found is judged by its selection, the short trainings in `<EXP>/selection`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

from pydantic import JsonValue

from ray_darts.artifacts.experiment import read_experiment
from ray_darts.artifacts.histories import RunHistory, read_histories
from ray_darts.artifacts.keys import ExperimentKeys, selection_of, split_place
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.results import GenotypeResult, ResultMetric, TrainingResults, training_results
from ray_darts.errors import ConfigError, MissingObject
from ray_darts.genotype.canonical import canonical
from ray_darts.report.stability import group_name

Opener = Callable[[str], ObjectStore]

_WORD = re.compile(r"(?P<place>(?:.*/)?[^/:]+)/*(?::(?P<cell>[^/:]+))?")


@dataclass(frozen=True)
class Item:
    """A word that names what is compared: an experiment in a store, and perhaps one of its cells."""

    word: str
    store: ObjectStore
    experiment: str
    cell: str | None

    @cached_property
    def is_search(self) -> bool:
        """Whether the experiment has architecture parameters. Raises: MissingObject."""
        return bool(read_experiment(self.store, self.experiment).layout.cells)

    @cached_property
    def histories(self) -> list[RunHistory]:
        """Of all runs of the experiment."""
        return read_histories(self.store, self.experiment)

    @cached_property
    def results(self) -> TrainingResults:
        """The trainings that judge it: its own, or those of its selection where it is a search.

        Raises: ConfigError when there are none, or the experiment does not exist.
        """
        try:
            name = selection_of(self.experiment) if self.is_search else self.experiment
            results = training_results(self.store, name)
        except MissingObject as error:
            why = f"{self.word}: {error}; a search is compared by its selection, so run one first"
            raise ConfigError(why) from error
        if results.metric is None or not any(cell.values for cell in results.genotypes):
            raise ConfigError(f"{self.word}: no training of {name} has finished with a value yet: nothing to compare")
        return results

    @property
    def trained_draws(self) -> list[GenotypeResult]:
        """The trained cell of each run of a search that drew its genotype."""
        draws = (history for history in self.histories if history.is_sampler)
        return list(trained_cells(self.results, draws).values())


@dataclass(frozen=True)
class Side:
    """What is compared. `values`: of the metric, one per seed of a cell, or one per run of a method (`unit`).

    `note`: how the cell was chosen, where it was not named. `lost`: runs that failed or have not finished.
    `parameters`: of the network, the mean where there are several cells.
    """

    label: str
    metric: ResultMetric
    values: tuple[float, ...]
    unit: str
    data_digests: Mapping[str, str]
    test_digests: tuple[str, ...]
    protocol: Mapping[str, JsonValue]
    parameters: float | None
    note: str = ""
    lost: tuple[str, ...] = field(default=())

    @property
    def mean(self) -> float:
        """Of its values."""
        return fmean(self.values)


def read_item(word: str, store: ObjectStore, opener: Opener) -> Item:
    """The item that a word names; `opener` opens other stores. Raises: ConfigError."""
    found = _WORD.fullmatch(word.strip())
    if found is None:
        raise ConfigError(f"{word!r} names no experiment: wanted EXP, EXP:GENOTYPE or s3://bucket/prefix/EXP")
    uri, name = split_place(found["place"])
    ExperimentKeys(name)
    return Item(word, opener(uri) if uri else store, name, found["cell"])


def best_side(item: Item) -> Side:
    """The named cell of an item, or its best one, which is said in the note. Raises: ConfigError."""
    results = item.results
    if item.cell is not None:
        return cell_side(item.word, results, _named(item, results))
    best = results.ranked()[0]
    num = len(results.genotypes)
    note = "" if num == 1 else f"cell {best.name}, the best of {num} by the same metric, which favours it"
    return cell_side(item.word, results, best, note)


def cell_side(label: str, results: TrainingResults, cell: GenotypeResult, note: str = "") -> Side:
    """One cell, a value per seed. Raises: ConfigError without a value."""
    if not cell.values:
        raise ConfigError(f"{label}: no training of {cell.name} has finished with a value yet: nothing to compare")
    lost = tuple(run.run for run in cell.runs if run.value is None)
    return _side(label, results, tuple(cell.values.values()), "seed", cell.parameters, note, lost)


def method_sides(item: Item) -> list[Side]:
    """What each method of a search found, all of its cells: one value per run, the mean over the cell's seeds.

    A method that draws genotypes without a gradient has two sides: the mean over all draws (random sampling) and the
    best draw (random search). Raises: ConfigError.
    """
    if item.cell is not None or not item.is_search:
        raise ConfigError(f"{item.word}: only a search has methods; give its experiment")
    results = item.results
    groups: dict[str, list[RunHistory]] = {}
    for history in item.histories:
        groups.setdefault(group_name(history), []).append(history)
    sides = [side for group, runs in groups.items() for side in _group_sides(f"{item.word} {group}", results, runs)]
    if not sides:
        raise ConfigError(f"{item.word}: no cell that a run found has been trained in {results.experiment}")
    return sides


def random_side(item: Item) -> Side:
    """The average over random cells: of a search all draws of its samplers, of trainings all cells, or the named one.

    Raises: ConfigError.
    """
    results = item.results
    if item.cell is not None:
        return cell_side(item.word, results, _named(item, results))
    if not item.is_search:
        cells = [cell for cell in results.genotypes if cell.values]
        return _average(item.word, results, cells, f"mean of {len(cells)} cells")
    cells = item.trained_draws
    if not cells:
        raise ConfigError(f"{item.word}: none of its trained cells was drawn at random: give another --random")
    return _average(item.word, results, cells, f"mean of {len(cells)} draws")


def has_samplers(item: Item) -> bool:
    """Whether an item is a search, of which a trained cell was drawn without a gradient. Raises: ConfigError."""
    if item.cell is not None or not item.is_search:
        return False
    return any(history.is_sampler for history in item.histories) and bool(item.trained_draws)


def _group_sides(label: str, results: TrainingResults, runs: list[RunHistory]) -> Iterator[Side]:
    trained = trained_cells(results, runs)
    if not trained:
        return
    cells = list(trained.values())
    missing = tuple(history.run for history in runs if history.run not in trained)
    is_sampler = all(history.is_sampler for history in runs)
    what = f"mean of {len(cells)} {'draws' if is_sampler else 'runs'}"
    yield _average(f"{label}, {what}", results, cells, "", missing)
    if is_sampler:
        order = {cell.name: place for place, cell in enumerate(results.ranked())}
        best = min(cells, key=lambda cell: order[cell.name])
        yield cell_side(f"{label}, best of {len(cells)} draws", results, best, f"cell {best.name}")


def trained_cells(results: TrainingResults, runs: Iterable[RunHistory]) -> dict[str, GenotypeResult]:
    """{run: its trained cell} of the runs that have one with a value; equal cells of several runs are trained once."""
    trained = {canonical(cell.architecture()): cell for cell in results.genotypes if cell.values}
    found = ((history.run, history.genotype()) for history in runs)
    cells = ((run, trained.get(canonical(genotype))) for run, genotype in found if genotype is not None)
    return {run: cell for run, cell in cells if cell is not None}


def _average(
    label: str, results: TrainingResults, cells: list[GenotypeResult], note: str, lost: tuple[str, ...] = ()
) -> Side:
    values = tuple(fmean(cell.values.values()) for cell in cells)
    sizes = [cell.parameters for cell in cells if cell.parameters is not None]
    return _side(label, results, values, "cell", fmean(sizes) if sizes else None, note, lost)


def _side(
    label: str,
    results: TrainingResults,
    values: tuple[float, ...],
    unit: str,
    parameters: float | None,
    note: str,
    lost: tuple[str, ...],
) -> Side:
    assert results.metric is not None
    return Side(
        label,
        results.metric,
        values,
        unit,
        results.data_digests,
        results.test_digests,
        results.protocol,
        parameters,
        note,
        lost,
    )


def _named(item: Item, results: TrainingResults) -> GenotypeResult:
    """The cell whose name begins with the item's. Raises: ConfigError naming the cells that there are."""
    assert item.cell is not None
    found = [cell for cell in results.genotypes if cell.name.startswith(item.cell)]
    exact = [cell for cell in found if cell.name == item.cell]
    if len(exact or found) != 1:
        known = ", ".join(cell.name for cell in results.genotypes)
        what = "several cells" if found else "no cell"
        raise ConfigError(f"{item.word}: {what} of that name; there are {known}")
    return (exact or found)[0]
