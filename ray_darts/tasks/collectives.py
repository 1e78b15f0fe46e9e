"""Sums and all-gathers over ranks; with one rank they do nothing. Knows nothing of what is summed.

Every rank calls every method, in the same order. Calls and bytes are counted, so that tests can check the
communication of a step.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.data.batch import Shard


class Collectives(Protocol):
    """The communication between ranks that the loop needs."""

    shard: Shard
    num_calls: int
    num_bytes: int

    def sum_(self, vector: Tensor) -> None:
        """Sum `vector` over ranks in place; bitwise the same result on every rank."""
        ...

    def all_rows(self, row: Tensor) -> Tensor:
        """Return [world_size, *row.shape], every rank's `row` in rank order."""
        ...


class SingleRank:
    """One rank: every sum is the value itself."""

    def __init__(self) -> None:
        self.shard = Shard(0, 1)
        self.num_calls = 0
        self.num_bytes = 0

    def sum_(self, vector: Tensor) -> None:
        """Leave `vector` as it is."""

    def all_rows(self, row: Tensor) -> Tensor:
        """Return [1, *row.shape]."""
        return row.unsqueeze(0)


class ProcessGroup:
    """The ranks of a torch.distributed process group (the default one unless given).

    Raises (from any method): RuntimeError of torch.distributed when a rank is lost or a time limit passes.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self.shard = Shard(dist.get_rank(group), dist.get_world_size(group))
        self.num_calls = 0
        self.num_bytes = 0

    def _count(self, tensor: Tensor) -> None:
        self.num_calls += 1
        self.num_bytes += tensor.numel() * tensor.element_size()

    def sum_(self, vector: Tensor) -> None:
        """All-reduce `vector` in place."""
        self._count(vector)
        dist.all_reduce(vector, group=self._group)

    def all_rows(self, row: Tensor) -> Tensor:
        """All-gather `row`, which has the same shape on every rank."""
        self._count(row)
        row = row.contiguous()
        rows = [torch.empty_like(row) for _ in range(self.shard.world_size)]
        dist.all_gather(rows, row, group=self._group)
        return torch.stack(rows)


def all_shards(collectives: Collectives, part: Tensor, total: int) -> Tensor:
    """Concatenate every rank's `part` [samples of its shard, ...] into [total, ...] in global-batch order."""
    world = collectives.shard.world_size
    sizes = [stop - start for start, stop in (Shard(rank, world).bounds(total) for rank in range(world))]
    padded = part.new_zeros(max(sizes), *part.shape[1:])
    padded[: part.shape[0]] = part
    rows = collectives.all_rows(padded)
    return torch.cat([rows[rank, :size] for rank, size in enumerate(sizes)])


def own_shard(shard: Shard, whole: NDArray[np.generic] | None, device: torch.device) -> Tensor | None:
    """This rank's part of what `all_shards` has put together, on `device`; None of None."""
    if whole is None:
        return None
    start, stop = shard.bounds(whole.shape[0])
    return torch.from_numpy(np.array(whole[start:stop])).to(device)
