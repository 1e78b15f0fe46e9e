"""Shared by all benchmarks: the machine's description, A B A B timing in process CPU seconds, JSON results.

Times are CPU seconds of this process, which other work on the machine affects little.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timing:
    """Seconds: the median, the least and the most of `repeats` runs."""

    median_s: float
    least_s: float
    most_s: float
    repeats: int


def alternate(
    candidates: Mapping[str, Callable[[], object]],
    repeats: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Timing]:
    """Time candidates in turns, A B A B, so that drift of the machine affects all of them equally."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warm_up + repeats):
        for name, run in candidates.items():
            start = clock()
            run()
            if turn >= warm_up:
                seconds[name].append(clock() - start)
    return {
        name: Timing(statistics.median(values), min(values), max(values), len(values))
        for name, values in seconds.items()
    }


def peak_flops(size: int = 1024, repeats: int = 5) -> float:
    """Floating-point operations per CPU second of a square float32 product: the peak speed of this process."""
    matrix = torch.randn(size, size)
    timing = alternate({"product": lambda: torch.mm(matrix, matrix)}, repeats)["product"]
    return 2 * size**3 / timing.least_s


class OperatorCalls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts calls that reach PyTorch's dispatcher: kernels and views, forward and backward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Count a call and execute it."""
        self.count += 1
        return func(*args, **(kwargs or {}))


def machine() -> dict[str, object]:
    """Hardware, versions and threads of this process."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "vector": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load": [round(value, 2) for value in _load()],
    }


def _load() -> tuple[float, ...]:
    text = Path("/proc/loadavg").read_text() if Path("/proc/loadavg").exists() else "0 0 0"
    return tuple(float(value) for value in text.split()[:3])


def report(name: str, config: Mapping[str, object], results: Mapping[str, object]) -> None:
    """Print one benchmark's figures with machine and config, and write them to results/<name>.json."""
    document = {
        "benchmark": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "config": dict(config),
        "results": {key: asdict(value) if isinstance(value, Timing) else value for key, value in results.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(document, indent=2, sort_keys=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
