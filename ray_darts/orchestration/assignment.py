"""What the driver and the processes of a run send each other: an assignment, and how the run ended.

Both are plain JSON-able data, so that they reach any node and working directory. Ray retries whatever is raised, so
only a lost process raises; every other end of a run travels as a RunOutcome.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args
from uuid import uuid4

from pydantic import SerializeAsAny, ValidationError

import ray_darts
from ray_darts.artifacts.records import Owner
from ray_darts.config import RunConfig, validate_run_config
from ray_darts.errors import ConfigError, RankFailed, RunFailed, RunFinished
from ray_darts.exit_codes import STORE_GIVEN_UP, SUPERSEDED, USAGE, exit_code_of_error
from ray_darts.protocols.method import Method, Order
from ray_darts.protocols.registry import DEFAULTS
from ray_darts.protocols.settings import Settings
from ray_darts.protocols.task import RunCoordinates

OutcomeKind = Literal[
    "finished", "failed", "refused", "error", "lost", "superseded", "store_given_up", "interrupted", "budget_spent"
]

ASSIGNMENTS = "assignments"
"""The key of a worker group's runs in what Ray carries: Assignments as plain data, in the order of their execution."""

_KINDS: dict[object, OutcomeKind] = {kind: kind for kind in get_args(OutcomeKind)}
_KIND_OF_CODE: dict[int, OutcomeKind] = {
    SUPERSEDED: "superseded",
    STORE_GIVEN_UP: "store_given_up",
    USAGE: "refused",
}


class Session(Settings):
    """One command as it was typed; every restart it causes belongs to it. `uuid` is 32 hex digits."""

    uuid: str
    host: str
    pid: int
    ray_job: str | None = None


def new_session(ray_job: str | None = None) -> Session:
    """The session of this process, called once per command."""
    return Session(uuid=uuid4().hex, host=socket.gethostname(), pid=os.getpid(), ray_job=ray_job)


def owner_of(
    session: Session, node: str | None = None, labels: Mapping[str, str] | None = None, start: int = 0
) -> Owner:
    """What a worker-group start on this machine writes into its records; `labels` are those of its Ray node.

    Instance type and market come from the labels `ray.io/instance-type` (or `instance-type`) and
    `ray.io/market-type`, which cluster files set; without them they stay unknown.
    """
    known = labels or {}
    market = known.get("ray.io/market-type")
    return Owner(
        session=session.uuid,
        uuid=uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        ray_job=session.ray_job,
        node=node,
        instance_type=known.get("ray.io/instance-type", known.get("instance-type")),
        spot=None if market is None else market == "spot",
        start=start,
    )


class Assignment(Settings):
    """One run of an experiment, as one command wants it.

    `device`: what every worker computes on. `data_digests`: what the command found when it opened the data; a worker
    that sees other data refuses to search. `allow_world_size_change`: continue a run with local batch norm although
    the number of workers is another one.
    """

    config: SerializeAsAny[RunConfig]
    experiment: str
    task: str = DEFAULTS["task"]
    run: str
    coordinates: RunCoordinates
    store_uri: str
    session: Session
    device: Literal["cpu", "cuda"] = "cpu"
    data_digests: dict[str, str]
    retry_failed: bool = False
    allow_world_size_change: bool = False

    def to_plain(self) -> dict[str, object]:
        """JSON-able."""
        return self.model_dump(mode="json")

    @classmethod
    def from_plain(cls, plain: Mapping[str, object]) -> Assignment:
        """The inverse of `to_plain`. Raises: ConfigError where this node cannot read what the driver sent."""
        try:
            config = validate_run_config(_section(plain.get("config")))
            return cls.model_validate({**plain, "config": config})
        except (ValidationError, ConfigError) as error:
            raise ConfigError(
                f"ray_darts {ray_darts.__version__} on {socket.gethostname()} cannot use the assignment that the "
                f"driver sent: {error}. Install the driver's version of ray_darts and its plugins on every node"
            ) from error


def run_name(method: Method, order: Order | None, seed: int) -> str:
    """The name of a run: `second-order-seed-3`, of another method than the default `its-name-second-order-seed-3`;
    without an order of a method that has none."""
    return f"{method.run_prefix}{'' if order is None else f'{order}-order-'}seed-{seed}"


def _section(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended for this command. `finished` and `failed` are in the log for good, the others are resumable.

    `refused`: config, data or rights are wrong, a person must correct them; `error`: anything else that a retry
    would repeat; `lost`: processes died more often than allowed.
    """

    kind: OutcomeKind
    detail: str = ""
    step: int = 0

    def to_plain(self) -> dict[str, object]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, object]) -> RunOutcome:
        """The inverse of `to_plain`. Raises: ValueError."""
        kind, detail, step = _KINDS.get(plain.get("kind")), plain.get("detail"), plain.get("step")
        if kind is None or not isinstance(detail, str) or not isinstance(step, int):
            raise ValueError(f"{plain!r} is no outcome of a run")
        return cls(kind, detail, step)


def outcome_of(error: Exception) -> RunOutcome:
    """The outcome that an error of the store, the data or the loop means: the exit code of both is the same."""
    if isinstance(error, RunFinished):
        return RunOutcome("finished", step=_step(error))
    if isinstance(error, RunFailed):
        return RunOutcome("failed", str(error), _step(error))
    if isinstance(error, RankFailed):
        return RunOutcome(_KINDS.get(error.facts.get("kind"), "error"), f"{type(error).__name__}: {error}")
    kind = _KIND_OF_CODE.get(exit_code_of_error(error), "error")
    named = kind in ("refused", "error")
    return RunOutcome(kind, f"{type(error).__name__}: {error}" if named else str(error))


def _step(error: RunFinished | RunFailed) -> int:
    step = error.facts.get("step", 0)
    return step if isinstance(step, int) else 0
