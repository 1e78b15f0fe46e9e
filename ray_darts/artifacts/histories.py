"""The descriptions and whole logs of all runs of an experiment, for reports over all of them. Reads no rows."""

from __future__ import annotations

from dataclasses import dataclass

from ray_darts.artifacts.answer import GENOTYPE, SearchAnswer, metric_of
from ray_darts.artifacts.descriptions import RunDescription
from ray_darts.artifacts.experiment import list_runs, read_run
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Metric, Record
from ray_darts.artifacts.run_log import read_log
from ray_darts.genotype.genotype import Genotype
from ray_darts.protocols.registry import DEFAULTS
from ray_darts.tasks.metrics import EpochMetrics


@dataclass(frozen=True)
class RunHistory:
    """One run: its description, and its records in order (none where nobody has claimed it)."""

    description: RunDescription
    records: tuple[Record, ...]
    experiment: str

    @property
    def run(self) -> str:
        """Its name."""
        return self.description.run

    @property
    def last(self) -> Record | None:
        """Its last record; None where nobody has claimed it."""
        return self.records[-1] if self.records else None

    @property
    def has_finished(self) -> bool:
        """Whether its last record is a finish."""
        return bool(self.records) and self.records[-1].kind == "finish"

    @property
    def method(self) -> str:
        """The kind of its search method."""
        return method_of(self.description)

    @property
    def is_sampler(self) -> bool:
        """Whether its method draws a genotype without a gradient: it has no order."""
        return self.description.order is None and self.description.genotype is None

    @property
    def epochs(self) -> list[EpochMetrics]:
        """The metrics of all epochs that ended, in order."""
        return [epoch for record in self.records for epoch in record.epochs]

    @property
    def metric(self) -> Metric | None:
        """Of its answer; None where it has not finished."""
        return metric_of(self.records[-1]) if self.records else None

    def genotype(self) -> Genotype | None:
        """What a finished search found; None for any other run. Raises: CorruptObject, GenotypeError."""
        if not self.has_finished or GENOTYPE not in self.records[-1].documents:
            return None
        last = self.records[-1]
        return SearchAnswer.of(last, RunKeys(self.experiment, self.run).record(last.n)).architecture()


def read_histories(store: ObjectStore, experiment: str) -> list[RunHistory]:
    """All runs of an experiment, by name; empty where it has none. Raises: CorruptObject, StoreError."""
    return [read_history(store, experiment, run) for run in list_runs(store, experiment)]


def read_history(store: ObjectStore, experiment: str, run: str) -> RunHistory:
    """One run. Raises: MissingObject, CorruptObject, StoreError."""
    records = tuple(entry.record for entry in read_log(store, RunKeys(experiment, run)))
    return RunHistory(read_run(store, experiment, run), records, experiment)


def method_of(run: RunDescription) -> str:
    """The kind of a run's search method."""
    return DEFAULTS["method"] if run.method is None else str(run.method.get("kind"))
