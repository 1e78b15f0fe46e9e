"""The documents of a store: records of a run log, descriptions of runs and experiments, and their parts.

Defines what they say, not when they are written. New records have schema 2, and 3 where they say what schema 2 cannot;
records of schema 1 are upgraded when read. Knows no task: the rows and the answer of a record are the task's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from ray_darts.artifacts.documents import Document, Facts
from ray_darts.artifacts.schema_1 import upgrade_record
from ray_darts.genotype.genotype import MAX_INPUTS, MAX_NODES
from ray_darts.messages import shown_name
from ray_darts.protocols.method import Order
from ray_darts.tasks.metrics import EpochMetrics, Scalar, warning_of

Kind = Literal["claim", "advance", "finish", "fail"]
Direction = Literal["max", "min"]


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
    """What a run's bits and cost depend on besides its identity; `operation` is that section of the config."""

    code: str
    world_size: int
    device_kind: str
    threads: int
    operation: dict[str, JsonValue] = Field(default_factory=dict)
    packages: dict[str, str] = Field(default_factory=dict)


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

    `direction` says which values are better. `ranking`: "interim" is a supernet's own, "selected" that of a short
    training from scratch, "trained" that of a whole one.
    """

    name: str
    value: float | None
    direction: Direction
    ranking: Literal["interim", "selected", "trained"] = "interim"


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
    `displaced_age_s` belong to a claim: the owner it took over from, and the age of that owner's last record.
    `trace_every_steps`: every how many steps the streams of this record have a row. `released` belongs to a finish that
    repeats the one before it: what the run has let go since.

    `step`, `checkpoint`, `total_steps`, `latest`, `sessions` and `idle_claims` are repeated in every record, so that
    the last record is enough to resume from and to report on. `idle_claims` counts this claim and, before it and since
    the last advance, those whose starts are known to have ended by themselves. `config_digest` is the experiment's; it
    is a name, the configs themselves are compared in `experiment.json`. `written_at` is for people; no decision depends
    on it.
    """

    VERSION: ClassVar[int] = 3
    ADDED: ClassVar[frozenset[str]] = frozenset({"trace_every_steps", "released"})

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
    sessions: tuple[str, ...]
    idle_claims: int
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


class GroupFacts(Facts):
    """A ParameterGroup as data."""

    kind: str
    cell: str
    shape: tuple[int, ...]


class RunDescription(Document):
    """What distinguishes one run of an experiment from another.

    `order`: of the alpha gradient, null where there is none. `method`: its settings where it is not the default
    method; `groups`: its architecture parameters where there are others than alphas, so that rows can be named without
    the method. `genotype`: the architecture that a training trains.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"method", "groups", "genotype"})

    run: str
    seed: int
    order: Order | None
    method: dict[str, JsonValue] | None = None
    groups: tuple[GroupFacts, ...] = ()
    genotype: dict[str, JsonValue] | None = None


class CellFacts(Facts):
    """A CellLayout as data."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"keeps_none", "outputs", "choices"})

    name: str
    num_inputs: int = Field(ge=1, le=MAX_INPUTS)
    num_nodes: int = Field(ge=1, le=MAX_NODES)
    operations: tuple[str, ...]
    inputs_per_node: int | None
    keeps_none: bool = False
    outputs: tuple[int, ...] | None = None
    choices: tuple[tuple[str, ...], ...] | None = None


class LayoutFacts(Facts):
    """A SpaceLayout as data, so that alphas can be named without the config's schema."""

    space: str
    cells: tuple[CellFacts, ...]
    skip: str
    parameter_free: tuple[str, ...]


_MOST_CLASSES = 12


class DataSummary(Facts):
    """What a reader needs to use a result on other data of the same kind: how the classes are numbered, and in which
    form the network took the pictures.

    `samples`: used samples of each class, in the order of `classes`; `mean` and `std` of pixels in [0, 1].
    """

    classes: tuple[str, ...]
    samples: tuple[int, ...]
    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def line(self) -> str:
        """One line for people."""
        names = self.classes if len(self.classes) <= _MOST_CLASSES else (*self.classes[: _MOST_CLASSES - 1], "…")
        shown = ", ".join(map(shown_name, names))
        numbers = "; ".join(
            f"{what} {', '.join(f'{value:.4g}' for value in values)}"
            for what, values in (("mean", self.mean), ("deviation", self.std))
        )
        return (
            f"data: {len(self.classes)} classes ({shown}), {sum(self.samples)} samples, "
            f"{self.image_size}x{self.image_size} pixels, {self.channels} channels; {numbers}"
        )


class ExperimentDescription(Document):
    """What all runs of an experiment share: the config's identity and its digest, the layout, the data's digests.

    `data` is None where the data has no classes, and in experiments of ray_darts 0.1.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"data"})

    experiment: str
    identity: dict[str, JsonValue]
    config_digest: str
    data_digests: dict[str, str]
    layout: LayoutFacts
    code: str
    data: DataSummary | None = None
