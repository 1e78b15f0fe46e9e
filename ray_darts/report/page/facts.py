"""Reads from a store all that a page shows, again and again while a search goes on.

What is missing or damaged becomes a line of `problems`, so that a page can be made of every experiment. Runs that have
not changed are not read again. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from ray_darts.artifacts.best import Best, read_best
from ray_darts.artifacts.concurrent_calls import call_concurrently
from ray_darts.artifacts.descriptions import ExperimentDescription
from ray_darts.artifacts.experiment import list_runs, no_such_experiment, read_experiment, read_run
from ray_darts.artifacts.histories import RunHistory
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys, is_selection, selection_of
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Record
from ray_darts.artifacts.results import TrainingResults, training_results
from ray_darts.artifacts.run_log import Entry, find_tip, read_log
from ray_darts.artifacts.sessions import SessionFacts, read_sessions
from ray_darts.errors import ConfigError, CorruptObject, GenotypeError, MissingObject, PluginError
from ray_darts.report.card import Card, make_card
from ray_darts.report.card_facts import CardFacts, Trainings
from ray_darts.report.costs import PhaseCost, phase_cost
from ray_darts.report.stability import Stability, stability_of

_DAMAGED = (ConfigError, CorruptObject, GenotypeError, MissingObject, PluginError)

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class PageFacts:
    """An experiment as far as it can be read; None for what the store does not have.

    `histories`: the runs that can be read, by name; `unread`: {name of another run: why}. `problems`: a line for each
    object that is damaged or missing.
    """

    experiment: str
    store: str
    description: ExperimentDescription | None
    best: Best | None
    histories: tuple[RunHistory, ...]
    unread: dict[str, str]
    trainings: tuple[Trainings, ...]
    sessions: tuple[SessionFacts, ...]
    stability: Stability | None
    costs: tuple[PhaseCost, ...]
    card: Card | None
    problems: tuple[str, ...]

    @property
    def is_over(self) -> bool:
        """Whether every run has ended; false without any, and before a selection that a command asked for."""
        if any("--select" in session.argv for session in self.sessions) and not self.trainings:
            return False
        runs = [*self.histories, *(history for each in self.trainings for history in each.histories)]
        return bool(runs) and all(history.records and history.records[-1].is_last for history in runs)


class FactsReader:
    """Reads one experiment; `training`: the experiment of trainings of what it found. Raises: MissingObject without
    any object of the experiment, ConfigError for a name that is none."""

    def __init__(self, store: ObjectStore, experiment: str, training: str | None = None) -> None:
        self._store = store
        self._experiment = experiment
        self._training = training
        self._histories: dict[tuple[str, str], tuple[RunHistory, str]] = {}
        self._problems: list[str] = []
        if not any(True for _ in store.list_objects(ExperimentKeys(experiment).root)):
            raise no_such_experiment(store, experiment)

    def read(self) -> PageFacts:
        """All that there is now. Raises: StoreError of a store that cannot be reached."""
        self._problems = []
        store, experiment = self._store, self._experiment
        described = self._try(f"{experiment}/experiment.json", lambda: read_experiment(store, experiment))
        histories, unread = self._runs(experiment)
        best = self._best(histories)
        sessions = self._try("the commands", lambda: read_sessions(store, experiment)) or []
        selection = None if is_selection(experiment) else selection_of(experiment)
        named = [("selection", selection), ("training", self._training)]
        trainings = {
            phase: found
            for phase, name in named
            if name is not None and (found := self._trainings(name, required=phase == "training")) is not None
        }
        phases: list[tuple[str, str, Sequence[RunHistory]]] = [("search", experiment, histories)]
        phases += [(phase, each.description.experiment, each.histories) for phase, each in trainings.items()]
        card = None
        if described is not None and described.layout.cells:
            facts = CardFacts(
                description=described,
                histories=tuple(histories),
                selection=trainings.get("selection"),
                training=trainings.get("training"),
                sessions=tuple(sessions),
                siblings=(),
                test_openings=None,
            )
            card = self._try("the card", lambda: make_card(facts))
        return PageFacts(
            experiment=experiment,
            store=store.uri,
            description=described,
            best=best,
            histories=tuple(histories),
            unread=unread,
            trainings=tuple(trainings.values()),
            sessions=tuple(sessions),
            stability=self._try("the stability", lambda: stability_of(histories)),
            costs=tuple(phase_cost(*phase) for phase in phases),
            card=card,
            problems=tuple(self._problems),
        )

    def _try(self, what: str, read: Callable[[], _Found]) -> _Found | None:
        """What `read` returns; None, and a problem, where that is missing or damaged."""
        try:
            return read()
        except _DAMAGED as error:
            self._problems.append(f"{what}: {error}")
            return None

    def _best(self, histories: Sequence[RunHistory]) -> Best | None:
        try:
            best = read_best(self._store, self._experiment)
            best.architecture()
            return best
        except MissingObject as error:
            if any(history.has_finished for history in histories):
                self._problems.append(f"{self._experiment}/best.json: {error}; ray-darts verify --repair writes it")
        except (CorruptObject, GenotypeError) as error:
            self._problems.append(f"{self._experiment}/best.json: {error}")
        return None

    def _runs(self, experiment: str) -> tuple[list[RunHistory], dict[str, str]]:
        """(Readable runs, {name of another: why}), read side by side."""

        def read(run: str) -> RunHistory | str:
            try:
                return self._history(experiment, run)
            except _DAMAGED as error:
                return str(error)

        names = list_runs(self._store, experiment)
        found = dict(zip(names, call_concurrently(read, names), strict=True))
        unread = {run: each for run, each in found.items() if isinstance(each, str)}
        self._problems += [f"{run}: {why}" for run, why in unread.items()]
        return [each for each in found.values() if isinstance(each, RunHistory)], unread

    def _history(self, experiment: str, run: str) -> RunHistory:
        """One run; of a run that was read before its new records alone, if they follow those that were read."""
        keys = RunKeys(experiment, run)
        found = self._grown(keys) or self._whole(keys)
        _check(found[0])
        if found[0].records:
            self._histories[experiment, run] = found
        return found[0]

    def _whole(self, keys: RunKeys) -> tuple[RunHistory, str]:
        """A run, and the digest of its last record."""
        log = read_log(self._store, keys)
        described = read_run(self._store, keys.experiment, keys.run)
        records = tuple(entry.record for entry in log)
        return RunHistory(described, records, keys.experiment), log[-1].digest if log else ""

    def _grown(self, keys: RunKeys) -> tuple[RunHistory, str] | None:
        """A run that was read before with its new records; None for any other, and where they do not follow."""
        known = self._histories.get((keys.experiment, keys.run))
        tip = None if known is None else find_tip(self._store, keys)
        more = None if known is None or tip is None else self._following(keys, *known, tip)
        if known is None or tip is None or more is None:
            return None
        return RunHistory(known[0].description, (*known[0].records, *more), keys.experiment), tip.digest

    def _following(self, keys: RunKeys, known: RunHistory, digest: str, tip: Entry) -> list[Record] | None:
        """The records after those that are known, up to the tip; None where they do not follow them."""
        last = known.records[-1].n
        if tip.record.n <= last:
            return [] if tip.digest == digest else None
        between = [Entry.read(self._store, keys, n) for n in range(last + 1, tip.record.n)]
        new: list[Record] = []
        for entry in (*between, tip):
            if entry is None or entry.record.previous_sha256 != digest:
                return None
            new.append(entry.record)
            digest = entry.digest
        return new

    def _trainings(self, name: str, *, required: bool) -> Trainings | None:
        try:
            described = read_experiment(self._store, name)
        except MissingObject as error:
            if required:
                self._problems.append(f"--training {name}: {error}")
            return None
        except CorruptObject as error:
            self._problems.append(str(error))
            return None
        results: TrainingResults | None = self._try(name, lambda: training_results(self._store, name))
        if results is None:
            return None
        histories, _ = self._runs(name)
        sessions = self._try("the commands", lambda: read_sessions(self._store, name)) or []
        return Trainings(described, results, tuple(histories), tuple(sessions))


def _check(history: RunHistory) -> None:
    """Read once what the page reads later. Raises: CorruptObject, GenotypeError."""
    _ = history.metric
    history.genotype()
    for record in history.records:
        try:
            datetime.fromisoformat(record.written_at)
        except ValueError as error:
            key = RunKeys(history.experiment, history.run).record(record.n)
            raise CorruptObject(f"{key} has no time that can be read: {error}", key=key) from error
