"""Reads from a store everything that the card of an experiment is made of. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ray_darts.artifacts.descriptions import ExperimentDescription
from ray_darts.artifacts.experiment import list_experiments, read_experiment
from ray_darts.artifacts.histories import RunHistory, read_histories
from ray_darts.artifacts.keys import is_name, openings_prefix, selection_of
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.results import TrainingResults, training_results
from ray_darts.artifacts.sessions import SessionFacts, read_sessions
from ray_darts.errors import ConfigError, MissingObject
from ray_darts.report.costs import Costs, phase_cost
from ray_darts.report.stability import Stability, stability_of


@dataclass(frozen=True)
class Trainings:
    """An experiment of trainings: of the cells that a selection ranks, or of the final ones."""

    description: ExperimentDescription
    results: TrainingResults
    histories: tuple[RunHistory, ...]
    sessions: tuple[SessionFacts, ...]

    @property
    def has_values(self) -> bool:
        """Whether a run has finished with a value."""
        return any(cell.values for cell in self.results.genotypes)


@dataclass(frozen=True)
class CardFacts:
    """Of a search, its selection and its trainings; None where the store has none.

    `siblings`: the other experiments of the store on the same data. `test_openings`: the runs that opened the test
    set of the data of the trainings; None where they name no data.
    """

    description: ExperimentDescription
    histories: tuple[RunHistory, ...]
    selection: Trainings | None
    training: Trainings | None
    sessions: tuple[SessionFacts, ...]
    siblings: tuple[str, ...]
    test_openings: int | None

    @property
    def experiment(self) -> str:
        """The name of the search."""
        return self.description.experiment

    @property
    def trainings(self) -> tuple[Trainings, ...]:
        """The selection and the trainings that there are."""
        return tuple(each for each in (self.selection, self.training) if each is not None)

    @property
    def all_sessions(self) -> tuple[SessionFacts, ...]:
        """The commands of the search, of its selection and of its trainings, oldest first."""
        found = (*self.sessions, *(session for each in self.trainings for session in each.sessions))
        return tuple(sorted(found, key=lambda session: session.started_at))

    @cached_property
    def stability(self) -> Stability:
        """Of the search."""
        return stability_of(self.histories)

    @cached_property
    def costs(self) -> Costs:
        """Of the search, of its selection and of its trainings."""
        phases = [phase_cost("search", self.experiment, self.histories)]
        for name, each in (("selection", self.selection), ("training", self.training)):
            if each is not None:
                phases.append(phase_cost(name, each.description.experiment, each.histories))
        return Costs(tuple(phases))

    def samplers(self) -> list[RunHistory]:
        """Runs that drew their genotypes."""
        return [history for history in self.histories if history.is_sampler]


def read_card_facts(store: ObjectStore, experiment: str, training: str | None = None) -> CardFacts:
    """Read a search with its selection; `training` names the experiment of trainings of what it found.

    Raises: MissingObject without such an experiment; ConfigError when `experiment` is no search, or `training` is one.
    """
    description = read_experiment(store, experiment)
    if not description.layout.cells:
        raise ConfigError(f"{experiment} is an experiment of trainings: a card is of a search; give it as --training")
    trained = None if training is None else _read_trainings(store, training)
    if training is not None and trained is None:
        raise ConfigError(f"--training {training}: there is no such experiment in {store.uri}")
    digest = None if trained is None else trained.description.data_digests.get("data")
    openings = None
    if digest is not None and is_name(digest):
        openings = sum(1 for _ in store.list_objects(openings_prefix(digest)))
    return CardFacts(
        description=description,
        histories=tuple(read_histories(store, experiment)),
        selection=_read_trainings(store, selection_of(experiment)),
        training=trained,
        sessions=tuple(read_sessions(store, experiment)),
        siblings=tuple(_siblings(store, description, training)),
        test_openings=openings,
    )


def _read_trainings(store: ObjectStore, name: str) -> Trainings | None:
    try:
        description = read_experiment(store, name)
    except MissingObject:
        return None
    if description.layout.cells:
        raise ConfigError(f"{name} is a search: wanted is an experiment of trainings")
    histories, sessions = read_histories(store, name), read_sessions(store, name)
    return Trainings(description, training_results(store, name), tuple(histories), tuple(sessions))


def _siblings(store: ObjectStore, described: ExperimentDescription, training: str | None) -> list[str]:
    """Other searches on the same data."""
    names = []
    for name in list_experiments(store):
        if name in (described.experiment, training):
            continue
        try:
            other = read_experiment(store, name)
        except MissingObject:  # a folder of something else
            continue
        if other.layout.cells and other.data_digests.get("data") == described.data_digests.get("data"):
            names.append(name)
    return names
