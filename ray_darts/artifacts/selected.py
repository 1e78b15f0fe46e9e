"""The finished runs of a search with the scores of their short trainings: what a selection offers to `best.json`.

A function of the logs alone: those of the search, and those of `<experiment>/selection`. Imports no pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ray_darts.artifacts.answer import SearchAnswer, is_ranked
from ray_darts.artifacts.best import Best, candidate
from ray_darts.artifacts.descriptions import RunDescription
from ray_darts.artifacts.experiment import list_runs, read_run
from ray_darts.artifacts.keys import RunKeys, selection_of
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Metric
from ray_darts.artifacts.run_log import Entry, find_tip
from ray_darts.artifacts.training_answer import TrainingAnswer
from ray_darts.genotype.canonical import canonical
from ray_darts.genotype.genotype import Genotype


@dataclass(frozen=True)
class FinishedSearch:
    """A finished run of a search, and the genotype that it found."""

    description: RunDescription
    finish: Entry
    genotype: Genotype


def finished_searches(store: ObjectStore, experiment: str) -> Iterator[FinishedSearch]:
    """Every finished run of an experiment that has a genotype as its answer, by name."""
    for run in list_runs(store, experiment):
        keys = RunKeys(experiment, run)
        tip = find_tip(store, keys)
        if tip is not None and is_ranked(tip.record):
            genotype = SearchAnswer.of(tip.record, keys.record(tip.record.n)).architecture()
            yield FinishedSearch(read_run(store, experiment, run), tip, genotype)


def selected_candidate(experiment: str, found: FinishedSearch, trained: Metric) -> Best:
    """The entry of a run whose cell has this metric after a short training."""
    metric = trained.model_copy(update={"name": f"selected_{trained.name}", "ranking": "selected"})
    return candidate(RunKeys(experiment, found.description.run), found.description, found.finish, metric)


def selected_candidates(store: ObjectStore, experiment: str) -> list[Best]:
    """The entries of all finished runs whose cell has a finished short training with a finite score."""
    selection = selection_of(experiment)
    scores: dict[str, Metric] = {}
    for run in list_runs(store, selection):
        keys = RunKeys(selection, run)
        tip = find_tip(store, keys)
        if tip is not None and tip.record.kind == "finish":
            answer = TrainingAnswer.of(tip.record, keys.record(tip.record.n))
            scores.setdefault(canonical(answer.architecture()), answer.metric)
    if not scores:
        return []
    found = [(each, scores.get(canonical(each.genotype))) for each in finished_searches(store, experiment)]
    return [
        selected_candidate(experiment, each, metric)
        for each, metric in found
        if metric is not None and metric.value is not None
    ]
