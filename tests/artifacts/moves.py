"""What a process of the state machine in `protocol` may do next: faults, kinds of work, runs, and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from ray_darts.artifacts.writer import RunWriter
from tests.artifacts.memory_store import FAULTS, Fault

RUNS = (("first-order-seed-0", 0), ("first-order-seed-1", 1))

schedules: st.SearchStrategy[list[Fault | None]] = st.one_of(
    st.just([]),
    st.builds(lambda at, fault: [None] * at + [fault], st.integers(0, 5), st.sampled_from(FAULTS)),
    st.lists(st.sampled_from((None, None, None, *FAULTS)), max_size=6),
)
works = st.sampled_from(["advance", "finish", "advance", "fail", "finish"])
runs = st.sampled_from([run for run, _ in RUNS])


@dataclass
class Process:
    """A process that holds, or believes to hold, a run. `owed` must be repeated before anything else."""

    run: str
    session: str
    writer: RunWriter
    owed: Callable[[RunWriter], None] | None = None
