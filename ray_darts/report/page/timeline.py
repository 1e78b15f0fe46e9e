"""Who held a run and when, what became of each start, and what its commits cost, from its log alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Literal, NamedTuple

import numpy as np

from ray_darts.artifacts.records import EndKind, Record
from ray_darts.report.costs import terms

Ending = Literal[
    "finished", "failed", "machine lost", "process lost", "ended by itself", "lost or stopped", "in progress"
]

_ENDS: Mapping[EndKind, Ending] = {"node": "machine lost", "process": "process lost", "itself": "ended by itself"}


class Term(NamedTuple):
    """One start of a worker group: the time from its claim to its last record, by the clock of its machine.

    `displaced`: the host whose hold it took over. `ending`: what the claim after it says; "lost or stopped" where that
    says nothing.
    """

    term: int
    began: str
    ended: str
    first_step: int
    last_step: int
    host: str
    session: str
    node: str | None
    instance_type: str | None
    spot: bool | None
    world_size: int
    device: str
    displaced: str | None
    ending: Ending


def terms_of(records: Sequence[Record]) -> Iterator[Term]:
    """All starts of a run, in order."""
    starts = list(terms(records))
    for own, after in zip_longest(starts, starts[1:]):
        first, last, owner = own[0], own[-1], own[0].owner
        yield Term(
            term=first.term,
            began=first.written_at,
            ended=last.written_at,
            first_step=first.step,
            last_step=last.step,
            host=owner.host,
            session=owner.session,
            node=owner.node,
            instance_type=owner.instance_type,
            spot=owner.spot,
            world_size=first.environment.world_size,
            device=first.environment.device_kind,
            displaced=None if first.displaced is None else first.displaced.host,
            ending=_ending(last, None if after is None else after[0]),
        )


def _ending(last: Record, claim: Record | None) -> Ending:
    """What became of the start that wrote `last`; `claim`: of the start after it."""
    if last.is_last:
        return "finished" if last.kind == "finish" else "failed"
    if claim is None:
        return "in progress"
    return "lost or stopped" if claim.previous_end is None else _ENDS[claim.previous_end]


class Commits(NamedTuple):
    """`number` commits of a run: seconds of all, of the median one and of the longest one."""

    number: int
    total_s: float
    median_s: float
    longest_s: float


def commits_of(records: Sequence[Record]) -> Commits | None:
    """What the commits of a run cost; None where no record says it."""
    seconds = [record.commit_seconds for record in records if record.commit_seconds is not None]
    if not seconds:
        return None
    return Commits(len(seconds), float(np.sum(seconds)), float(np.median(seconds)), float(np.max(seconds)))
