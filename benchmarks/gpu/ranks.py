"""Two ranks of one search: both end with the same bits, and with what one rank finds."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from datetime import timedelta
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.gpu.claims import CPU, LARGEST_DIFFERENCE, STEPS, Case, Claim, difference
from benchmarks.gpu.steps import Search, facts_of, small_config
from ray_darts.tasks.collectives import ProcessGroup

Backend = Literal["gloo", "nccl"]

WORLD_SIZE = 2
BATCH = 8
"""Halves are equal, so that local batch norm sees the same halves as `search.accumulate=2` on one rank."""


def ranks_agree(case: Case, device_kind: str, backend: Backend, timeout_s: float) -> Claim:
    """Two processes over `backend`: on one GPU with gloo, on a GPU each with NCCL, on CPUs otherwise."""
    name = f"two ranks through {backend}: {case}"
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="ray_darts-ranks-") as folder:
        answers: Queue[dict[str, Tensor] | str] = context.Queue()
        arguments = (case, device_kind, backend, str(Path(folder) / "meeting"), answers)
        processes = [context.Process(target=_rank, args=(rank, *arguments)) for rank in range(WORLD_SIZE)]
        for process in processes:
            process.start()
        try:
            found = [answers.get(timeout=timeout_s) for _ in processes]
        except Exception as error:  # noqa: BLE001 - a queue that stays empty, or a broken process
            return Claim(name, holds=False, detail=f"no answer within {timeout_s:.0f} s: {type(error).__name__}")
        finally:
            for process in processes:
                process.join(timeout=10)
                if process.is_alive():
                    process.kill()
    for one in found:
        if isinstance(one, str):
            return Claim(name, holds=False, detail=one)
    first, second = (one for one in found if isinstance(one, dict))
    if any(not torch.equal(first[key], second[key]) for key in first):
        return Claim(name, holds=False, detail="the ranks differ")
    largest = difference(first, _alone(case, torch.device(device_kind)))
    return Claim(name, largest <= LARGEST_DIFFERENCE, f"equal; largest difference from one rank {largest:.1e}")


def _search(case: Case, device: torch.device, *overrides: str, collectives: ProcessGroup | None = None) -> Search:
    config = small_config(case.space, *case.overrides, f"search.batch_size={BATCH}", *overrides)
    return Search(config, facts_of(case.space), case.order, device, batch_size=BATCH, collectives=collectives)


def _alone(case: Case, device: torch.device) -> dict[str, Tensor]:
    state = _search(case, device, f"search.accumulate={WORLD_SIZE}").advance(STEPS).state()
    del state["statistics"]  # micro-batches move them one after the other, ranks at once
    return state


def _rank(
    rank: int,
    case: Case,
    device_kind: str,
    backend: Backend,
    meeting: str,
    answers: Queue[dict[str, Tensor] | str],
) -> None:
    """One process."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    device = CPU if device_kind == "cpu" else torch.device("cuda", rank if backend == "nccl" else 0)
    try:
        dist.init_process_group(
            backend,
            init_method=f"file://{meeting}",
            rank=rank,
            world_size=WORLD_SIZE,
            timeout=timedelta(seconds=60),
        )
        state = _search(case, device, collectives=ProcessGroup()).advance(STEPS).state()
        del state["statistics"]
        answers.put(state)
        dist.destroy_process_group()
    except Exception as error:  # noqa: BLE001 - told to the process that waits
        answers.put(f"rank {rank}: {type(error).__name__}: {str(error).splitlines()[0]}")
