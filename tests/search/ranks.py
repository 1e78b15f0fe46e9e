"""Real gloo ranks on loopback: warm worker processes that each test turns into a process group of its own."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

from ray_darts.tasks.collectives import Collectives, ProcessGroup, SingleRank

T = TypeVar("T")


class RankProcesses:
    """`size` spawned processes; `run` gives each of the first `world_size` the same function and its rank's group."""

    def __init__(self, size: int) -> None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        context = multiprocessing.get_context("spawn")
        self._pools = [context.Pool(1, initializer=torch.set_num_threads, initargs=(1,)) for _ in range(size)]

    def run(self, world_size: int, function: Callable[..., T], *arguments: object) -> list[T]:
        """Return each rank's `function(collectives, *arguments)`, in rank order; raises what a rank raised."""
        with tempfile.TemporaryDirectory() as folder:
            meeting = str(Path(folder) / "store")
            waiting = [
                pool.apply_async(_on_rank, (meeting, rank, world_size, function, arguments))
                for rank, pool in enumerate(self._pools[:world_size])
            ]
            return [result.get(timeout=240) for result in waiting]

    def close(self) -> None:
        """End the processes."""
        for pool in self._pools:
            pool.terminate()
            pool.join()


def _on_rank(meeting: str, rank: int, world_size: int, function: Callable[..., T], arguments: tuple[object, ...]) -> T:
    if world_size == 1:
        alone: Collectives = SingleRank()
        return function(alone, *arguments)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size, timeout=timedelta(seconds=120)
    )
    try:
        return function(ProcessGroup(), *arguments)
    finally:
        dist.destroy_process_group()
