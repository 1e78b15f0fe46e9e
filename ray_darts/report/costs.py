"""What an experiment cost, from its logs alone: worker-seconds of each phase, lost work, starts, and mixed hardware.

A term is the time of one writer, from its claim to its last record, by the clocks of the machines that wrote them. The
time from there to the next claim is waiting or work that was lost with the writer, which the log cannot tell apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby, pairwise

from ray_darts.artifacts.histories import RunHistory
from ray_darts.artifacts.records import Record
from ray_darts.report.amounts import counted, duration_text

_FACTS: Mapping[str, Callable[[Record], str]] = {
    "device": lambda record: record.environment.device_kind,
    "threads": lambda record: str(record.environment.threads),
    "world size": lambda record: str(record.environment.world_size),
    "code": lambda record: record.environment.code,
    "instance type": lambda record: record.owner.instance_type or "",
}


@dataclass(frozen=True)
class PhaseCost:
    """One phase: all runs of one experiment, unfinished ones up to their last record.

    `worker_s`: seconds of a term times its world size; `lost_or_waiting_worker_s`: between terms, times the world size
    of the term before: at most so much work was repeated. `began`, `ended`: first and last record, ISO 8601.
    """

    phase: str
    experiment: str
    runs: int
    finished: int
    starts: int
    worker_s: float
    lost_or_waiting_worker_s: float
    began: str | None
    ended: str | None
    device_kinds: tuple[str, ...]
    mixed: tuple[str, ...]

    @property
    def wall_s(self) -> float:
        """Seconds from the first record to the last one, over all runs."""
        return 0.0 if self.began is None or self.ended is None else _seconds(self.began, self.ended)


@dataclass(frozen=True)
class Costs:
    """All phases, in the order of work."""

    phases: tuple[PhaseCost, ...]

    @property
    def worker_s(self) -> float:
        """Worker-seconds of all phases."""
        return sum(phase.worker_s for phase in self.phases)

    @property
    def wall_s(self) -> float:
        """Seconds from the first record of any phase to the last one of any; includes pauses between phases."""
        began = [phase.began for phase in self.phases if phase.began]
        ended = [phase.ended for phase in self.phases if phase.ended]
        if not began or not ended:
            return 0.0
        return _seconds(min(began, key=datetime.fromisoformat), max(ended, key=datetime.fromisoformat))

    def to_data(self) -> dict[str, object]:
        """Plain JSON-able data; times in seconds."""
        phases = [{**asdict(phase), "wall_s": phase.wall_s} for phase in self.phases]
        return {"phases": phases, "worker_s": self.worker_s, "wall_s": self.wall_s}


def phase_cost(phase: str, experiment: str, histories: Sequence[RunHistory]) -> PhaseCost:
    """The cost of a phase (search, selection, training) from the histories of its runs."""
    records = [record for history in histories for record in history.records]
    times = sorted((record.written_at for record in records), key=datetime.fromisoformat)
    return PhaseCost(
        phase=phase,
        experiment=experiment,
        runs=len(histories),
        finished=sum(history.has_finished for history in histories),
        starts=sum(record.kind == "claim" for record in records),
        worker_s=sum(seconds for history in histories for seconds in _worked(history)),
        lost_or_waiting_worker_s=sum(seconds for history in histories for seconds in _between(history)),
        began=times[0] if times else None,
        ended=times[-1] if times else None,
        device_kinds=tuple(sorted({record.environment.device_kind for record in records})),
        mixed=tuple(_mixed(records)),
    )


def costs_text(costs: Costs) -> str:
    """A line per phase, a total, and a line per fact that is mixed."""
    lines = [phase_text(phase) for phase in costs.phases]
    if len(costs.phases) > 1:
        total = f"all phases: {worker_text(costs.worker_s)}, {duration_text(costs.wall_s)} from first to last record"
        lines.append(total)
    lines += [f"{phase.phase}: mixed {fact}" for phase in costs.phases for fact in phase.mixed]
    return "\n".join(lines)


def phase_text(phase: PhaseCost) -> str:
    """One phase on one line."""
    starts = f"{counted(phase.runs, 'run')} ({phase.finished} finished), {counted(phase.starts, 'start')}"
    lost = f"at most {worker_text(phase.lost_or_waiting_worker_s)} repeated or waited between starts"
    devices = ", ".join(phase.device_kinds) or "no device recorded"
    return f"{phase.phase} ({phase.experiment}): {worker_text(phase.worker_s)}; {starts}; {lost}; {devices}"


def worker_text(seconds: float) -> str:
    """`1h02m of a worker`: seconds of workers as a duration of one."""
    return f"{duration_text(seconds)} of a worker"


def terms(records: Sequence[Record]) -> Iterator[list[Record]]:
    """The records of each term of a run, in order."""
    for _, own in groupby(records, key=lambda record: record.term):
        yield list(own)


def _worked(history: RunHistory) -> Iterator[float]:
    for records in terms(history.records):
        yield _seconds(records[0].written_at, records[-1].written_at) * records[0].environment.world_size


def _between(history: RunHistory) -> Iterator[float]:
    """Between terms; after a term that ended the run for good nothing was lost, and nothing waited for a machine."""
    for before, after in pairwise(terms(history.records)):
        if not before[-1].is_last:
            yield _seconds(before[-1].written_at, after[0].written_at) * before[-1].environment.world_size


def _seconds(start: str, end: str) -> float:
    """From one time to another, at least 0: clocks of two machines may disagree."""
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def _mixed(records: Sequence[Record]) -> Iterator[str]:
    """`fact: values` for each fact that differs between records."""
    for name, of in _FACTS.items():
        yield from _several(name, {of(record) for record in records})
    names = sorted({name for record in records for name in record.environment.packages})
    for name in names:
        yield from _several(name, {record.environment.packages.get(name, "none") for record in records})
    operations = {json.dumps(_numerical(record), sort_keys=True) for record in records}
    yield from _several("way of computing", operations)


_WAYS = ("kernel", "formulation", "compile", "compile_backend", "checkpoint_cells")
"""Settings of `operation` that change the bits of a run, as far as they are recorded."""


def _numerical(record: Record) -> dict[str, object]:
    return {name: record.environment.operation[name] for name in _WAYS if name in record.environment.operation}


def _several(name: str, values: set[str]) -> Iterator[str]:
    if len(values) > 1:
        yield f"{name}: {', '.join(sorted(value or 'unknown' for value in values))}"
