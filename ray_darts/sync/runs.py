"""What every logger is given of a run: hyperparameters, a point per epoch, final numbers, the cell and its drawing.

A function of the store alone: the same run gives the same points with the same times, so that a logger that was given
some of them can be given the rest. Imports no logger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from ray_darts.artifacts.descriptions import ExperimentDescription
from ray_darts.artifacts.experiment import list_runs, read_experiment
from ray_darts.artifacts.histories import RunHistory, method_of, read_history
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.genotype.genotype import Genotype
from ray_darts.report.cells import cells_svg
from ray_darts.report.comparison import flat
from ray_darts.report.stability import group_name

Plain = str | int | float | bool


class Point(NamedTuple):
    """The numbers of one epoch; `time_s`: when its record was written, seconds since 1970."""

    step: int
    epoch: int
    time_s: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class LoggedRun:
    """One run. `state`: "finished", "failed" or "unfinished"; `metric`: what ranks it, None until it has finished."""

    experiment: str
    run: str
    group: str
    state: str
    hyperparameters: Mapping[str, Plain]
    points: tuple[Point, ...]
    metric: tuple[str, float] | None
    genotype: Genotype | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state != "unfinished"

    def drawing(self) -> str:
        """The cell as SVG; the run has one."""
        assert self.genotype is not None
        return cells_svg(self.genotype)


class Logger(Protocol):
    """Where runs are copied to."""

    def add(self, run: LoggedRun) -> int:
        """Add what is not there yet; returns the number of points added. Raises: ConfigError."""
        ...

    def write(self) -> None:
        """Write what was added."""
        ...


def logged_runs(store: ObjectStore, experiment: str) -> Iterator[LoggedRun]:
    """All runs of an experiment, by name. Raises: MissingObject, CorruptObject, StoreError."""
    described = read_experiment(store, experiment)
    for run in list_runs(store, experiment):
        yield logged_run(described, read_history(store, experiment, run))


def logged_run(described: ExperimentDescription, history: RunHistory) -> LoggedRun:
    """One run of an experiment."""
    last = history.records[-1] if history.records else None
    metric = history.metric
    description = history.description
    own: dict[str, JsonValue] = {"seed": description.seed, "order": description.order, "method": method_of(description)}
    return LoggedRun(
        experiment=history.experiment,
        run=history.run,
        group=group_name(history),
        state="unfinished" if last is None or not last.is_last else {"finish": "finished"}.get(last.kind, "failed"),
        hyperparameters=dict(_hyperparameters({**described.identity, "run": own})),
        points=tuple(_points(history)),
        metric=None if metric is None or metric.value is None else (metric.name, metric.value),
        genotype=history.genotype(),
    )


def _hyperparameters(settings: Mapping[str, JsonValue]) -> Iterator[tuple[str, Plain]]:
    """Each leaf of nested settings; lists as text; what is absent is left out."""
    for name, value in flat(settings):
        if isinstance(value, list):
            yield name, ", ".join(map(str, value))
        elif value is not None and not isinstance(value, dict):
            yield name, value


def _points(history: RunHistory) -> Iterator[Point]:
    for record in history.records:
        time_s = datetime.fromisoformat(record.written_at).timestamp()
        for epoch in record.epochs:
            values = {
                name: float(value)
                for name, value in epoch.scalars().items()
                if isinstance(value, int | float) and name not in ("epoch", "step")
            }
            yield Point(epoch.step, epoch.epoch, time_s, values)
