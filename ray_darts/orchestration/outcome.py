"""How a run ended for the command that ran it, as a value: nothing of it is ever raised through Ray.

Ray retries whatever is raised, so only a lost process raises; every verdict travels as an Outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from ray_darts.errors import RunFailed, RunFinished, StoreUnavailable, Superseded

OutcomeKind = Literal[
    "finished", "failed", "error", "lost", "superseded", "store_given_up", "interrupted", "time_limit"
]


@dataclass(frozen=True)
class Outcome:
    """`finished` and `failed` are in the log for good; everything else leaves the run resumable.

    `error`: a mistake that a retry would repeat; `lost`: processes died more often than allowed.
    """

    kind: OutcomeKind
    detail: str = ""
    step: int = 0

    def to_plain(self) -> dict[str, object]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, object]) -> Outcome:
        """The inverse of `to_plain`. Raises: ValueError."""
        known: dict[object, OutcomeKind] = {kind: kind for kind in get_args(OutcomeKind)}
        kind, detail, step = known.get(plain.get("kind")), plain.get("detail"), plain.get("step")
        if kind is None or not isinstance(detail, str) or not isinstance(step, int):
            raise ValueError(f"{plain!r} is no outcome")
        return cls(kind, detail, step)


def outcome_of(error: Exception) -> Outcome:
    """The outcome that an error of the store, the data or the loop means."""
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, RunFinished):
        return Outcome("finished", step=_step(error))
    if isinstance(error, RunFailed):
        return Outcome("failed", str(error), _step(error))
    if isinstance(error, Superseded):
        return Outcome("superseded", str(error))
    if isinstance(error, StoreUnavailable):
        return Outcome("store_given_up", str(error))
    return Outcome("error", detail)


def _step(error: RunFinished | RunFailed) -> int:
    step = error.facts.get("step", 0)
    return step if isinstance(step, int) else 0


_EXIT_CODES: tuple[tuple[OutcomeKind, int], ...] = (
    ("interrupted", 130),
    ("time_limit", 130),
    ("superseded", 76),
    ("store_given_up", 75),
    ("failed", 1),
    ("error", 1),
    ("lost", 1),
)


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """The command's exit code; of several reasons the first of 130, 76, 75, 1 is told, 0 when all finished.

    76 goes before 75: a retry would displace the newer command that superseded this one.
    """
    kinds = {outcome.kind for outcome in outcomes}
    return next((code for kind, code in _EXIT_CODES if kind in kinds), 0)
