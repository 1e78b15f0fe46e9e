"""Exchanges health, a digest of the state and each sink's requests between ranks, every few steps.

One small all-gather; the result is the same on every rank, so all ranks commit, pause and stop at the same step.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ray_darts.protocols.task import StopReason, Wants
from ray_darts.tasks.collectives import Collectives

_STOPS: tuple[StopReason, ...] = ("interrupted", "budget_spent", "superseded", "store_given_up")


@dataclass(frozen=True)
class Agreement:
    """Decisions of all ranks: rank 0's `commit` and `pause`, the `stop` of any rank.

    `diverged`: the ranks whose state differs from rank 0's. `num_healthy`: finite steps of this attempt so far.
    """

    commit: bool
    pause: bool
    stop: StopReason | None
    healthy: bool
    num_healthy: int
    diverged: tuple[int, ...]


def agree(
    collectives: Collectives,
    wants: Wants,
    state: NDArray[np.generic],
    healthy: bool,
    num_healthy: int,
    device: torch.device,
) -> Agreement:
    """Exchange one row per rank. `state`: what must be bitwise equal on all ranks."""
    digest = hashlib.sha256(np.ascontiguousarray(state).data).digest()
    stop = 0 if wants.stop is None else 1 + _STOPS.index(wants.stop)
    words = [int.from_bytes(digest[start : start + 8], "big", signed=True) for start in range(0, 32, 8)]
    row = torch.tensor([wants.commit, wants.pause, stop, healthy, num_healthy, *words], dtype=torch.int64)
    rows = collectives.all_rows(row.to(device)).tolist()
    stops = [row[2] for row in rows if row[2]]
    return Agreement(
        commit=bool(rows[0][0]),
        pause=bool(rows[0][1]),
        stop=_STOPS[max(stops) - 1] if stops else None,
        healthy=all(row[3] for row in rows),
        num_healthy=min(row[4] for row in rows),
        diverged=tuple(rank for rank, row in enumerate(rows) if row[5:] != rows[0][5:]),
    )
