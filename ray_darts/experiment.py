"""An experiment in a store as Python objects: status, runs, best genotype, traces and metrics. Reads only.

Imports neither torch nor Ray; pyarrow only for traces and metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset

    from ray_darts.artifacts.best import Best
    from ray_darts.artifacts.descriptions import DataSummary, RunDescription
    from ray_darts.artifacts.objects import ObjectStore
    from ray_darts.artifacts.status import RunStatus


@dataclass(frozen=True)
class Experiment:
    """An experiment in a store, finished or not. Reads only, and reads again at each call."""

    store: ObjectStore
    name: str

    def status(self) -> list[RunStatus]:
        """How far each run is, from the last record of its log, by name. Raises: StoreError."""
        from ray_darts.artifacts.statuses import experiment_status

        return experiment_status(self.store, self.name)

    def watch(self) -> Callable[[], list[RunStatus]]:
        """A function that reads the status again: each call asks only what may have changed since the one before.

        Raises: StoreError, from each call.
        """
        from ray_darts.artifacts.statuses import RunStatuses

        return RunStatuses(self.store, self.name).read_listed

    def data(self) -> DataSummary | None:
        """Classes, size, mean and deviation of the data; None for text, and where 0.1 began it. Raises: StoreError."""
        from ray_darts.artifacts.experiment import read_experiment

        return read_experiment(self.store, self.name).data

    def best(self, verify: bool = False) -> Best:
        """The best finished run; `best().architecture()` is its genotype.

        One GET; with `verify` two more, of the finish record and the run's description, which must say the same.
        Raises: MissingObject while no run has finished, CorruptObject.
        """
        from ray_darts.artifacts.best import read_best

        return read_best(self.store, self.name, verify)

    def runs(self) -> list[RunDescription]:
        """Name, seed and order of each run, by name. Raises: StoreError."""
        from ray_darts.artifacts.experiment import list_runs, read_run

        return [read_run(self.store, self.name, run) for run in list_runs(self.store, self.name)]

    def traces(self) -> pyarrow.dataset.Dataset:
        """The published alpha traces of all finished runs as a `pyarrow.dataset`; files are read when it is scanned.

        A row is one alpha after one step: run, order, seed, epoch, step, cell, edge, source, target, operation, alpha,
        probability; runs of other methods add method and parameter, and have null where a parameter is no alpha.
        Raises: StoreError.
        """
        from pyarrow.dataset import dataset

        from ray_darts.artifacts.datasets import trace_dataset
        from ray_darts.artifacts.trace_schema import TRACE_SCHEMA
        from ray_darts.errors import MissingObject

        try:
            return trace_dataset(self.store, self.name)
        except MissingObject:
            return dataset(TRACE_SCHEMA.empty_table())

    def metrics(self) -> pa.Table:
        """The published metrics of all finished runs, one row per epoch, as a `pyarrow.Table`. Raises: StoreError."""
        from ray_darts.artifacts.datasets import published_metrics

        return published_metrics(self.store, self.name)
