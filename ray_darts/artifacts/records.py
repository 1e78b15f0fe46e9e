"""The documents of a store: records of a run log, descriptions of runs and experiments, and what they are made of.

Knows what they say, not when they are written.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from ray_darts.artifacts.documents import Document, Facts
from ray_darts.artifacts.metrics import EpochMetrics, Scalar

Kind = Literal["claim", "advance", "finish", "fail"]
Direction = Literal["max", "min"]


class Owner(Facts):
    """Who writes: one worker-group start (`uuid`) of one typed command (`session`)."""

    session: str
    uuid: str
    host: str
    pid: int
    ray_job: str | None = None
    node: str | None = None
    instance_type: str | None = None
    spot: bool | None = None


class Environment(Facts):
    """What the bits and the cost of a run depend on beyond its config; `operation` as the config had it."""

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
    """Alphas after steps `first`..`last`, one row per step."""

    first: int
    last: int


class CheckpointRef(Facts):
    """The loop's whole state after `step`."""

    step: int
    tensors: ObjectRef
    state: ObjectRef


class Metric(Facts):
    """A number that ranks runs; null ranks last (not finite).

    `ranking` is interim until a selection has trained the cell from scratch.
    """

    name: str
    value: float | None
    direction: Direction
    ranking: Literal["interim", "selected"] = "interim"


class Failure(Facts):
    """Why a run ended for good; `facts` as the error had them."""

    kind: str
    detail: str
    facts: dict[str, JsonValue] = Field(default_factory=dict)


class Record(Document):
    """One entry of a run log; a claim says whom it displaced and how old that one's last record was.

    `epoch` counts claims and fences: a writer is alive while the newest record has its epoch. `step`, `checkpoint`,
    `total_steps`, `latest`, `sessions` and `idle_claims` are repeated in every record, so the last one alone is
    enough to resume from and to report on. `written_at` is for people; no safety rests on it.
    """

    n: int
    nonce: str
    previous_sha256: str | None
    kind: Kind
    epoch: int
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
    parts: tuple[PartRef, ...] = ()
    checkpoint: CheckpointRef | None = None
    epochs: tuple[EpochMetrics, ...] = ()
    latest: dict[str, Scalar] = Field(default_factory=dict)
    commit_seconds: float | None = None
    genotype: dict[str, JsonValue] | None = None
    genotype_step: int | None = None
    metric: Metric | None = None
    failure: Failure | None = None

    @property
    def is_last(self) -> bool:
        """Whether the run has ended, for good or until a retry is asked for."""
        return self.kind in ("finish", "fail")


class Head(Document):
    """A hint where the log's end is; may be stale or absent."""

    n: int


class RunDescription(Document):
    """What tells one run of an experiment from another."""

    run: str
    seed: int
    order: Literal["first", "second"]


class CellFacts(Facts):
    """A CellLayout as data."""

    name: str
    num_inputs: int
    num_nodes: int
    operations: tuple[str, ...]
    inputs_per_node: int


class LayoutFacts(Facts):
    """A SpaceLayout as data, so that alphas can be named without the config's schema."""

    space: str
    cells: tuple[CellFacts, ...]
    skip: str
    parameter_free: tuple[str, ...]


class ExperimentDescription(Document):
    """What all runs of an experiment share: the identity part of the config, its digest and those of the data."""

    experiment: str
    identity: dict[str, JsonValue]
    config_digest: str
    data_digests: dict[str, str]
    layout: LayoutFacts
    code: str
