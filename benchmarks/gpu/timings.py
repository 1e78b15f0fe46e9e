"""Seconds, memory, launches and idle time of a search step in one of several number formats."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch._C._autograd import DeviceType

from benchmarks.gpu.claims import deterministic
from benchmarks.gpu.steps import Search, whole_config
from ray_darts.config import SearchConfig
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order
from ray_darts.search.replay import CudaGraphs
from ray_darts.tasks.counting import OperatorCounter
from ray_darts.tasks.meta_calls import plain_call

PRECISIONS = ("float32", "tf32", "bfloat16")
CIFAR10 = DataFacts(10, 3, 32)


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    order: Order
    batch_size: int
    precision: str = "float32"
    formulation: str = "grouped"
    graphs: bool = False
    compiled: tuple[str, ...] = ()
    deterministic: bool = False
    smaller: tuple[str, ...] = ()

    def config(self) -> SearchConfig:
        """The paper's search with this row's settings."""
        names = ", ".join(f"'{name}'" for name in self.compiled)
        return whole_config(
            f"search.batch_size={self.batch_size}",
            f"search.precision={self.precision}",
            f"operation.formulation={self.formulation}",
            f"operation.compile=[{names}]",
            *self.smaller,
        )

    def columns(self) -> list[str]:
        """What the row is of."""
        how = "CUDA graphs" if self.graphs else f"compiled: {', '.join(self.compiled)}" if self.compiled else "plain"
        if self.deterministic:
            how += ", deterministic"
        return [self.order, str(self.batch_size), self.precision, self.formulation, how]


@dataclass(frozen=True)
class Figures:
    """Of one step. `seconds`: the least of some; `first_s`: of the first, captures and compilation included; absent
    figures could not be had here. `idle`: the share of a step in which the GPU computes nothing."""

    seconds: float
    first_s: float
    memory_bytes: int | None
    launches: int
    idle: float | None


def measure(setting: Setting, device: torch.device, steps: int = 8) -> Figures:
    """Figures of a step on `device`, after two that warm up."""
    with deterministic() if setting.deterministic else nullcontext():
        return _measure(setting, device, steps)


def _measure(setting: Setting, device: torch.device, steps: int) -> Figures:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    capture = CudaGraphs(device) if setting.graphs else None
    searching = Search(setting.config(), CIFAR10, setting.order, device, batch_size=setting.batch_size, capture=capture)

    def one() -> None:
        searching.advance()
        if on_gpu:
            torch.cuda.synchronize(device)

    first_s = seconds_of(one)
    seconds_of(one)
    least = min(seconds_of(one) for _ in range(steps))
    memory = torch.cuda.max_memory_allocated(device) if on_gpu else None
    if not on_gpu:
        with OperatorCounter(plain_call) as counter:
            one()
        return Figures(least, first_s, memory, counter.calls, None)
    launches, busy_s = _profiled(one)
    return Figures(least, first_s, memory, launches, max(0.0, 1 - busy_s / least))


def seconds_of(run: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _profiled(run: Callable[[], object]) -> tuple[int, float]:
    """(launches by the host, seconds in which the GPU computed) of one call."""
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        run()
    launches, spans = 0, []
    for event in profile.events() or []:
        if event.device_type == DeviceType.CUDA:
            spans.append((event.time_range.start, event.time_range.end))
        elif event.name.startswith(("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")):
            launches += 1
    busy_us, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        busy_us += max(0.0, end - max(start, until))
        until = max(until, end)
    return launches, busy_us * 1e-6
