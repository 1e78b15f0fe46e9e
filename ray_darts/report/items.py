"""Reads what `compare` is given: cells of experiments of trainings, and what searches found, as sides to compare.

A word names an experiment of the store, `s3://bucket/prefix/EXP` one of another store, `EXP:GENOTYPE` one cell of an
experiment of trainings. What a search found is judged by its selection, the short trainings in `<EXP>/selection`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean

from pydantic import JsonValue

from ray_darts.artifacts.experiment import read_experiment
from ray_darts.artifacts.histories import RunHistory, read_histories
from ray_darts.artifacts.keys import ExperimentKeys, selection_of
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.results import GenotypeResult, ResultMetric, TrainingResults, training_results
from ray_darts.errors import ConfigError, MissingObject
from ray_darts.report.stability import group_name

Opener = Callable[[str], ObjectStore]

_WORD = re.compile(r"(?:(?P<uri>.*[^/])/+)?(?P<name>[^/:]+(?:/selection)?)(?::(?P<cell>[^/:]+))?")


@dataclass(frozen=True)
class Item:
    """A word that names what is compared: an experiment in a store, and perhaps one of its cells."""

    word: str
    store: ObjectStore
    experiment: str
    cell: str | None


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
    uri, name, cell = found["uri"], found["name"], found["cell"]
    ExperimentKeys(name)
    return Item(word, opener(uri) if uri else store, name, cell)


def judged_results(item: Item) -> TrainingResults:
    """The trainings that judge an item: its own, or those of its selection where it is a search.

    Raises: ConfigError when there are none, or the experiment does not exist.
    """
    try:
        is_search = _is_search(item)
        name = selection_of(item.experiment) if is_search else item.experiment
        results = training_results(item.store, name)
    except MissingObject as error:
        raise ConfigError(f"{item.word}: {error}; a search is compared by its selection, so run one first") from error
    if results.metric is None or not any(cell.values for cell in results.genotypes):
        raise ConfigError(f"{item.word}: no training of {name} has finished with a value yet: nothing to compare")
    return results


def best_side(item: Item) -> Side:
    """The named cell of an item, or its best one, which is said in the note. Raises: ConfigError."""
    results = judged_results(item)
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
    if item.cell is not None or not _is_search(item):
        raise ConfigError(f"{item.word}: only a search has methods; give its experiment")
    results = judged_results(item)
    groups: dict[str, list[RunHistory]] = {}
    for history in read_histories(item.store, item.experiment):
        groups.setdefault(group_name(history), []).append(history)
    sides = [side for group, runs in groups.items() for side in _group_sides(f"{item.word} {group}", results, runs)]
    if not sides:
        raise ConfigError(f"{item.word}: no cell that a run found has been trained in {results.experiment}")
    return sides


def random_side(item: Item) -> Side:
    """The average over random cells: of a search all draws of its samplers, of trainings all cells, or the named one.

    Raises: ConfigError.
    """
    results = judged_results(item)
    if item.cell is not None:
        return cell_side(item.word, results, _named(item, results))
    if not _is_search(item):
        cells = [cell for cell in results.genotypes if cell.values]
        return _average(item.word, results, cells, f"mean of {len(cells)} cells")
    draws = [history for history in read_histories(item.store, item.experiment) if history.is_sampler]
    cells = _trained(results, draws)
    if not cells:
        raise ConfigError(f"{item.word}: none of its trained cells was drawn at random: give another --random")
    return _average(item.word, results, cells, f"mean of {len(cells)} draws")


def has_samplers(item: Item) -> bool:
    """Whether an item is a search, of which a trained cell was drawn without a gradient. Raises: ConfigError."""
    if item.cell is not None or not _is_search(item):
        return False
    draws = [history for history in read_histories(item.store, item.experiment) if history.is_sampler]
    return bool(draws) and bool(_trained(judged_results(item), draws))


def _group_sides(label: str, results: TrainingResults, runs: list[RunHistory]) -> Iterator[Side]:
    cells = _trained(results, runs)
    if not cells:
        return
    missing = tuple(history.run for history in runs if _cell_of(results, history) is None)
    is_sampler = all(history.is_sampler for history in runs)
    what = f"mean of {len(cells)} {'draws' if is_sampler else 'runs'}"
    yield _average(f"{label}, {what}", results, cells, "", missing)
    if is_sampler:
        order = {cell.name: place for place, cell in enumerate(results.ranked())}
        best = min(cells, key=lambda cell: order[cell.name])
        yield cell_side(f"{label}, best of {len(cells)} draws", results, best, f"cell {best.name}")


def _trained(results: TrainingResults, runs: list[RunHistory]) -> list[GenotypeResult]:
    """The trained cell of each run that has one with a value; a cell that several runs found stands several times."""
    cells = (_cell_of(results, history) for history in runs)
    return [cell for cell in cells if cell is not None]


def _cell_of(results: TrainingResults, history: RunHistory) -> GenotypeResult | None:
    genotype = history.genotype()
    if genotype is None:
        return None
    return next((cell for cell in results.genotypes if cell.values and cell.architecture() == genotype), None)


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


def _is_search(item: Item) -> bool:
    """Whether an experiment has architecture parameters. Raises: MissingObject."""
    return bool(read_experiment(item.store, item.experiment).layout.cells)
