"""Measures a step's peak memory, and turns an allocator's error into one that names settings that would fit."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ray_darts.config.run import BatchSettings
from ray_darts.errors import StepOutOfMemory

_KIB = 1024
_CPU_ALLOCATOR = ("not enough memory", "can't allocate memory")
_UNITS = {"B": 1, "bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def peak_bytes(device: torch.device) -> int:
    """Peak memory so far: of the device's allocator on CUDA, resident memory of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


@contextmanager
def naming_what_would_fit(settings: BatchSettings, device: torch.device, section: str) -> Iterator[None]:
    """Raise StepOutOfMemory when an allocation inside fails; other errors pass through.

    `section`: of the config that holds `settings`, for the message.
    """
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and not any(words in text for words in _CPU_ALLOCATOR):
            raise
        raise _explained(text, settings, device, section) from error


def _explained(text: str, settings: BatchSettings, device: torch.device, section: str) -> StepOutOfMemory:
    """Suggest the next power of two of `accumulate`: smaller micro-batches need about half the activations."""
    seen = re.search(r"allocate ([\d.]+) (GiB|MiB|KiB|bytes|B)", text)
    requested = int(float(seen[1]) * _UNITS[seen[2]]) if seen else 0
    accumulate = 2 * settings.accumulate
    if settings.batch_norm == "sync":
        advice = "synchronised batch norm takes whole shards: use more workers"
    elif accumulate <= settings.batch_size:
        micro = -(-settings.batch_size // accumulate)
        advice = f"set {section}.accumulate={accumulate} (now {settings.accumulate}: micro-batches of {micro})"
    else:
        advice = "the micro-batches are single samples already: use a smaller space"
    advice += ", or operation.checkpoint_cells=true"
    return StepOutOfMemory(
        f"a step did not fit the memory of {device}: {requested:,} bytes more were asked for; {advice}",
        requested_bytes=requested,
        accumulate=accumulate,
    )
