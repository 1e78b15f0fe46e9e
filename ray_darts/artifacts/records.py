"""The records of a run log, and the facts in them.

Defines what they say, not when they are written. New records have schema 2, and 3 where they say what schema 2 cannot;
records of schema 1 are upgraded when read. Knows no task: the rows and the answer of a record are the task's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from ray_darts.artifacts.documents import Document, Facts
from ray_darts.artifacts.schema_1 import upgrade_record
from ray_darts.tasks.metrics import EpochMetrics, Scalar, warning_of

Kind = Literal["claim", "advance", "finish", "fail"]
Direction = Literal["max", "min"]
EndKind = Literal["itself", "process", "node"]
"""How a start of a run ended: out of memory or with a broken device; with a process that something killed; with the
machine of one of its workers."""


class Owner(Facts):
    """The writer of a record: one worker-group start (`uuid`) of one typed command (`session`).

    `start` numbers the starts of a run by one command; 0 where nobody counts them.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"start"})

    session: str
    uuid: str
    host: str
    pid: int
    ray_job: str | None = None
    node: str | None = None
    instance_type: str | None = None
    spot: bool | None = None
    start: int = 0


class Environment(Facts):
    """What a run's bits and cost depend on besides its identity; `operation` is that section of the config.

    `price_per_hour`: of all workers together, by `operation.prices`; null where one has no price.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"price_per_hour"})

    code: str
    world_size: int
    device_kind: str
    threads: int
    operation: dict[str, JsonValue] = Field(default_factory=dict)
    packages: dict[str, str] = Field(default_factory=dict)
    price_per_hour: float | None = None


class Spent(Facts):
    """What all starts of a run have used, from each claim to the last record before the next one.

    `worker_s`: seconds times workers; `cost`: in the currency of the prices, of workers that have one.
    """

    worker_s: float = 0.0
    cost: float = 0.0

    def plus(self, seconds: float, environment: Environment) -> Spent:
        """With `seconds` more of the workers of `environment`."""
        hours = max(seconds, 0.0) / 3600
        return Spent(
            worker_s=self.worker_s + max(seconds, 0.0) * environment.world_size,
            cost=self.cost + hours * (environment.price_per_hour or 0.0),
        )


class ObjectRef(Facts):
    """An object that a record makes visible."""

    key: str
    sha256: str
    num_bytes: int


class PartRef(ObjectRef):
    """Rows of one stream for the steps `first`..`last`; `log_rules.kept_steps` says of which of them."""

    first: int
    last: int


class CheckpointRef(Facts):
    """The loop's whole state after `step`."""

    step: int
    tensors: ObjectRef
    state: ObjectRef


class Metric(Facts):
    """A number that ranks runs; null (not finite) ranks last.

    `direction` says which values are better. `ranking`: "unfinished" is that of a supernet whose search has not ended,
    "interim" a supernet's own, "selected" that of a short training from scratch, "trained" that of a whole one.
    """

    name: str
    value: float | None
    direction: Direction
    ranking: Literal["unfinished", "interim", "selected", "trained"] = "interim"


class Failure(Facts):
    """Why a run ended without an answer; `facts` are those of the error."""

    kind: str
    detail: str
    facts: dict[str, JsonValue] = Field(default_factory=dict)


class KeptDocument(Facts):
    """A published document that nothing can make again."""

    sha256: str
    num_bytes: int


class Released(Facts):
    """What a finished run no longer keeps, and what stands for it.

    `finish_n`, `finish_sha256`: number and hash of the record that finished the run. `streams`: those whose parts are
    let go; `checkpoint`: whether the last checkpoint is. `documents`: {name: the document that cannot be made again
    without them}. `at`: when, for people.
    """

    finish_n: int
    finish_sha256: str
    streams: tuple[str, ...]
    checkpoint: bool
    documents: dict[str, KeptDocument]
    at: str


class Record(Document):
    """One entry of a run log.

    `term` counts claims (and ends for lack of progress): only the writer of the highest term can append. `streams`
    maps the name of a row stream to the parts that this record adds to it. `answer` and `documents` belong to a
    finish: the task's result, and the names of the objects to publish from the log, in order. `displaced` and
    `displaced_age_s` belong to a claim: the owner it took over from, and the age of that owner's last record; so does
    `previous_end`: how the start before it ended, null where nobody knows. `trace_every_steps`: every how many steps
    the streams of this record have a row. `released` belongs to a finish that repeats the one before it: what the run
    has let go since.

    `step`, `checkpoint`, `total_steps`, `latest`, `sessions`, `idle_claims`, `failures` (starts that ended by
    themselves or with a process), `preemptions` (starts that ended with a machine) and `spent` are repeated in every
    record, so that the last record is enough to resume from and to report on. `idle_claims` counts this claim and,
    before it and since the last advance, those whose starts are known to have ended by themselves. `config_digest` is
    the experiment's; it is a name, the configs themselves are compared in `experiment.json`. `written_at` is for
    people; no decision depends on it.
    """

    VERSION: ClassVar[int] = 3
    ADDED: ClassVar[frozenset[str]] = frozenset(
        {"previous_end", "failures", "preemptions", "spent", "trace_every_steps", "released"}
    )

    schema_version: int = 2
    n: int
    nonce: str
    previous_sha256: str | None
    kind: Kind
    term: int
    task: str
    owner: Owner
    displaced: Owner | None = None
    displaced_age_s: float | None = None
    previous_end: EndKind | None = None
    sessions: tuple[str, ...]
    idle_claims: int
    failures: int = 0
    preemptions: int = 0
    spent: Spent = Spent()
    written_at: str
    config_digest: str
    environment: Environment
    step: int
    total_steps: int | None = None
    streams: dict[str, tuple[PartRef, ...]] = Field(default_factory=dict)
    checkpoint: CheckpointRef | None = None
    epochs: tuple[EpochMetrics, ...] = ()
    latest: dict[str, Scalar] = Field(default_factory=dict)
    commit_seconds: float | None = None
    answer: dict[str, JsonValue] | None = None
    documents: tuple[str, ...] = ()
    failure: Failure | None = None
    trace_every_steps: int = Field(1, ge=1)
    released: Released | None = None

    @model_validator(mode="after")
    def _schema_3(self) -> Self:
        if self.schema_version < 3 and (self.released is not None or self.trace_every_steps != 1):
            raise ValueError("trace_every_steps and released: no fields of schema 2")
        return self

    @property
    def is_last(self) -> bool:
        """Whether the run has ended: finished, or failed and only continued by a retry."""
        return self.kind in ("finish", "fail")

    @property
    def warning(self) -> str | None:
        """The warning that was true after the last epoch, such as a collapse into skip connections."""
        return warning_of(self.latest)

    @property
    def parts(self) -> tuple[PartRef, ...]:
        """The parts that this record adds, of all streams."""
        return tuple(part for name in sorted(self.streams) for part in self.streams[name])

    @classmethod
    def upgraded(cls, plain: Mapping[str, object], version: int) -> Mapping[str, object]:
        """Schema 1 in the form of schema 2; schema 2 as it is."""
        if version == 2:
            return plain
        return upgrade_record(plain) if version == 1 else super().upgraded(plain, version)


class Head(Document):
    """The number of a recent record, to find the last one faster; may be stale or absent."""

    n: int
