"""What the simulated driver touches of ray_darts, so that one simulation plays several revisions of it.

The driver is the package's own `run_sweep`: plan, registration, queue, placement and supervision are its code. What it
takes from Ray is replaced by name; a name that a revision does not have is left alone. What workers do is in
`search_run`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from ray_darts.artifacts import contention
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.config import SearchConfig, load_config
from ray_darts.config.operation import OperationSettings
from ray_darts.errors import RayDartsError, RunFinished, Superseded
from ray_darts.orchestration import capacity, status_reader, supervisor, sweep, tune_sweep
from ray_darts.orchestration.assignment import Assignment, OutcomeKind, RunOutcome, new_session
from ray_darts.orchestration.capacity import Capacity
from ray_darts.orchestration.plan import plan_sweep
from ray_darts.orchestration.preflight import OpenedData
from ray_darts.orchestration.requests import SearchRequest
from ray_darts.orchestration.status_reader import StatusReader
from ray_darts.orchestration.tune_sweep import TuneSweep
from ray_darts.protocols.dataset import DataFacts

EXPERIMENT = "scale"
ASSIGNMENTS: str = vars(tune_sweep)["ASSIGNMENTS"]
"""The key of a group's runs in what its queue gives."""

_SPACE = (
    "space.nodes=1",
    'space.operations=["none","skip_connect","dil_conv_3x3"]',
    "data.test_fraction=0",
)

__all__ = [
    "ASSIGNMENTS",
    "Assignment",
    "OutcomeKind",
    "RayDartsError",
    "RunFinished",
    "RunOutcome",
    "Superseded",
    "TuneSweep",
]


@dataclass(frozen=True)
class Features:
    """What a revision has, asked from its own code.

    `preemptions_apart`: a reclaimed machine is no failure. `driver_bytes`: what the processes that drive a run
    hold, wherever they are placed.
    """

    preemptions_apart: bool
    max_preemptions: int | None
    driver_bytes: int

    @classmethod
    def of(cls, config: SearchConfig) -> Features:
        """Ask."""
        return cls(
            preemptions_apart="max_preemptions" in OperationSettings.model_fields,
            max_preemptions=getattr(config.operation, "max_preemptions", None),
            driver_bytes=int(getattr(capacity, "DRIVER_BYTES", getattr(capacity, "HEAD_BYTES_PER_RUN", 0))),
        )


def request_of(num_runs: int, workers: int, store_uri: str, overrides: Sequence[str] = ()) -> SearchRequest:
    """The request of a command with so many seeds, one order each."""
    config = load_config("digits", overrides=[*_SPACE, f'operation.workers="{workers}"', *overrides])
    return SearchRequest(config, EXPERIMENT, store_uri, tuple(range(num_runs)), ("second",))


@dataclass
class Command:
    """One typed command. `sweep_type` executes the runs; `passed` is called around each status pass."""

    request: SearchRequest
    store: ObjectStore
    capacity: Capacity
    sweep_type: Callable[..., object]
    thread_type: type
    now: Callable[[], float]
    slept: Callable[[float], None]
    status_pass: Callable[[Callable[[], bool]], bool]

    def run(self) -> Mapping[str, RunOutcome]:
        """Type it. Raises: what the driver raises, and what the thread type raises when the head is lost."""
        log = logging.getLogger("ray_darts")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            with self._replaced():
                return sweep.run_sweep(self.request, lambda runs: None).outcomes
        finally:
            log.setLevel(level)

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        data = OpenedData({"data": "0" * 64}, DataFacts(10, 1, 8))
        context = SimpleNamespace(get_job_id=lambda: "simulated")
        connection = SimpleNamespace(is_own=False, keep_logs=False)
        clock = SimpleNamespace(monotonic=self.now, sleep=self.slept, time=time.time)

        def limits(*words: object, **more: object) -> object:
            made = supervisor.Limits(*words, **more)  # type: ignore[arg-type]
            return replace(made, status_timeout_s=3600.0)

        status_pass = self.status_pass

        class MeasuredReader(StatusReader):
            def refresh(self, *words: Any, **more: Any) -> bool:
                return status_pass(partial(super().refresh, *words, **more))

        values: list[tuple[ModuleType, str, object]] = [
            (sweep, "open_store", lambda *words: self.store),
            (sweep, "named_cluster", lambda address: "simulated"),
            (sweep, "ray_connection", lambda *words: nullcontext(connection)),
            (sweep, "cluster_capacity", lambda: self.capacity),
            (sweep, "check_store_is_shared", lambda store: None),
            (sweep, "check_from_worker", lambda *words: data),
            (sweep, "ray", SimpleNamespace(get_runtime_context=lambda: context, is_initialized=lambda: True)),
            (sweep, "TuneSweep", self.sweep_type),
            (sweep, "Limits", limits),
            (sweep, "HoursKeeper", lambda *words: SimpleNamespace(close=lambda: None)),
            (supervisor, "StatusReader", MeasuredReader),
            (supervisor, "time", clock),
            (supervisor, "threading", _Threads(self.thread_type)),
            (contention, "time", clock),
            (status_reader, "time", clock),
        ]
        before = [(module, name, getattr(module, name)) for module, name, _ in values if hasattr(module, name)]
        try:
            for module, name, value in values:
                if hasattr(module, name):
                    setattr(module, name, value)
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)


class _Threads:
    """The module `threading` with another class for the thread that runs Ray Tune."""

    def __init__(self, thread_type: type) -> None:
        self._thread_type = thread_type

    def __getattr__(self, name: str) -> object:
        return getattr(threading, name)

    def Thread(self, *, target: Callable[[], object], name: str, daemon: bool = True) -> object:
        """A thread of this name."""
        return (self._thread_type if name == "ray_tune" else threading.Thread)(target=target, name=name, daemon=daemon)


def driver_bytes(request: SearchRequest, store: ObjectStore) -> int | None:
    """Resident bytes by which this process grows with the driver's own data of a request: the plan, the assignments,
    and each as plain data, which Ray Tune keeps. None where a revision makes them otherwise."""
    make = getattr(sweep, "_assignments", None)
    if make is None:
        return None
    before = resident_bytes()
    plan = plan_sweep(request, store)
    assignments = make(plan, request.config, new_session(), store.uri, "cpu", {"data": "0" * 64})
    kept = [assignment.to_plain() for assignment in assignments]
    return resident_bytes() - before if kept else 0


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
