"""How far each run is, from the last record of its log alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ray_darts.artifacts.answer import metric_of
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Environment, Failure, Metric, Owner, Record, Spent
from ray_darts.artifacts.run_log import Entry, find_tip
from ray_darts.tasks.metrics import Scalar, warning_of

RunState = Literal["waiting", "claimed", "searching", "training", "finished", "failed"]


@dataclass(frozen=True)
class RunStatus:
    """One run: `step` is the last durable one, `age_s` the age of the last record, `latest` the last epoch's numbers;
    `failures`, `preemptions` and `spent` as in a Record.

    `record` and `record_sha256` are the number and the digest of that record; None while the log is empty.
    `claimed`, `searching` and `training` describe the last record, not whether a process is still running: see `age_s`.
    """

    run: str
    state: RunState
    step: int = 0
    total_steps: int | None = None
    claims: int = 0
    owner: Owner | None = None
    environment: Environment | None = None
    age_s: float | None = None
    commit_seconds: float | None = None
    latest: Mapping[str, Scalar] = field(default_factory=dict)
    metric: Metric | None = None
    failure: Failure | None = None
    failures: int = 0
    preemptions: int = 0
    spent: Spent = field(default_factory=Spent)
    record: int | None = None
    record_sha256: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the log ends: finished, or failed and only continued by a retry."""
        return self.state in ("finished", "failed")

    @property
    def has_owner(self) -> bool:
        """Whether the last record is of a start that was working then."""
        return self.state not in ("waiting", "finished", "failed")

    @property
    def warning(self) -> str | None:
        """What the last epoch warned of, such as a collapse into skip connections."""
        return warning_of(self.latest)

    @property
    def epoch(self) -> int | None:
        """The last epoch that ended, from 0."""
        epoch = self.latest.get("epoch")
        return epoch if isinstance(epoch, int) else None


def state_of(record: Record | None) -> RunState:
    """The state of a run whose last record this is; None: nobody has claimed it."""
    if record is None:
        return "waiting"
    states: dict[str, RunState] = {
        "claim": "claimed",
        "advance": "training" if record.task == "training" else "searching",
        "finish": "finished",
        "fail": "failed",
    }
    return states[record.kind]


def run_status(store: ObjectStore, experiment: str, run: str) -> RunStatus:
    """Three requests in the usual case: the head, the record it names, and the one that is not there yet."""
    keys = RunKeys(experiment, run)
    tip = find_tip(store, keys)
    return RunStatus(run, "waiting") if tip is None else status_after(run, tip)


def status_after(run: str, tip: Entry) -> RunStatus:
    """The status of a run whose last record this is."""
    record = tip.record
    return RunStatus(
        run=run,
        state=state_of(record),
        step=record.step,
        total_steps=record.total_steps,
        claims=record.term,
        owner=record.owner,
        environment=record.environment,
        age_s=tip.age_s,
        commit_seconds=record.commit_seconds,
        latest=record.latest,
        metric=metric_of(record),
        failure=record.failure,
        failures=record.failures,
        preemptions=record.preemptions,
        spent=record.spent,
        record=record.n,
        record_sha256=tip.digest,
    )
