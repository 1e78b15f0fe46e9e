"""Who held a run and when, what became of each start, and what its commits cost, from its log alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from ray_darts.artifacts.records import Record
from ray_darts.report.costs import terms

Ending = Literal["finished", "failed", "lost or stopped", "in progress"]


class Term(NamedTuple):
    """One start of a worker group: the time from its claim to its last record, by the clock of its machine.

    `displaced`: the host whose hold it took over. `ending`: "lost or stopped" where another start claimed the run
    after it, which the log cannot tell apart.
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
    last_term = records[-1].term if records else 0
    for own in terms(records):
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
            ending=_ending(last, is_last=first.term == last_term),
        )


def _ending(last: Record, *, is_last: bool) -> Ending:
    if last.is_last:
        return "finished" if last.kind == "finish" else "failed"
    return "in progress" if is_last else "lost or stopped"


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
