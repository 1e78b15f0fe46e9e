"""The process group of a run, and the mailbox in which a failing rank posts its outcome for the other ranks.

Only a lost process may be retried: a broken collective raises RankLost. A rank that meets any other error posts its
outcome; the others read it when their collective breaks, and return the same outcome instead of raising.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import TCPStore

from ray_darts.errors import RankLost
from ray_darts.orchestration.assignment import RunOutcome
from ray_darts.orchestration.crashes import visit
from ray_darts.tasks.collectives import ProcessGroup

logger = logging.getLogger("ray_darts.orchestration")

_KEY, _NUM_INFORMED = "outcome", "informed"
_TIMEOUT_S = 20.0


class RankGroup(ProcessGroup):
    """The default process group; a broken collective is RankLost, never a bare RuntimeError."""

    def sum_(self, vector: Tensor) -> None:
        """All-reduce `vector` in place. Raises: RankLost."""
        visit(f"collective.{self.shard.rank}")
        try:
            super().sum_(vector)
        except RuntimeError as error:
            raise _lost(error) from error

    def all_rows(self, row: Tensor) -> Tensor:
        """All-gather `row`. Raises: RankLost."""
        try:
            return super().all_rows(row)
        except RuntimeError as error:
            raise _lost(error) from error


def _lost(error: RuntimeError) -> RuntimeError | RankLost:
    if isinstance(error, torch.OutOfMemoryError):
        return error
    return RankLost(f"a collective broke, so a rank of this run is lost: {error}")


class FailureMailbox:
    """A key-value store on rank 0's host, where a failing rank posts its outcome; one per worker group."""

    def __init__(self, group: RankGroup, host: str, device: torch.device) -> None:
        """Every rank calls; `host` is rank 0's address. Raises: RankLost."""
        self._world_size = group.shard.world_size
        timeout = timedelta(seconds=_TIMEOUT_S)
        port = torch.zeros(1, dtype=torch.int64, device=device)
        try:
            if group.shard.rank == 0:
                self._store = TCPStore(host, 0, is_master=True, timeout=timeout, wait_for_workers=False)
                port[0] = self._store.port
            group.sum_(port)
            if group.shard.rank > 0:
                self._store = TCPStore(host, int(port), is_master=False, timeout=timeout, wait_for_workers=False)
            group.sum_(port)
        except RuntimeError as error:
            raise _lost(error) from error

    def post(self, outcome: RunOutcome) -> None:
        """Post `outcome`, break the other ranks' collectives, and wait until each has read or posted (20 s at most)."""
        try:
            self._store.set(_KEY, json.dumps(outcome.to_plain()))
            self._store.add(_NUM_INFORMED, 1)
            dist.destroy_process_group()
            deadline = time.monotonic() + _TIMEOUT_S
            while self._store.add(_NUM_INFORMED, 0) < self._world_size and time.monotonic() < deadline:
                time.sleep(0.1)
        except RuntimeError as error:
            logger.warning("the outcome could not be posted for the other ranks: %s", error)

    def read(self) -> RunOutcome | None:
        """The outcome that a failing rank has posted; None when there is none, so a process was lost."""
        try:
            if not self._store.check([_KEY]):
                return None
            self._store.add(_NUM_INFORMED, 1)
            return RunOutcome.from_plain(json.loads(self._store.get(_KEY)))
        except RuntimeError:
            return None
