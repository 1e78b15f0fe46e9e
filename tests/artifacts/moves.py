"""What a process of the state machine in `protocol` may do next: faults, kinds of work, runs, and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hypothesis import strategies as st

from ray_darts.artifacts.writer import RunWriter
from ray_darts.errors import RunFailed, StoreError
from tests.artifacts.folder_store import FolderStore
from tests.artifacts.memory_store import FAULTS, Fault, Killed, MemoryStore
from tests.artifacts.runs import claimed

Answer = TypeVar("Answer")
Store = MemoryStore | FolderStore

RUNS = (("first-order-seed-0", 0), ("first-order-seed-1", 1))

schedules: st.SearchStrategy[list[Fault | None]] = st.one_of(
    st.just([]),
    st.builds(lambda at, fault: [None] * at + [fault], st.integers(0, 5), st.sampled_from(FAULTS)),
    st.lists(st.sampled_from((None, None, None, *FAULTS)), max_size=6),
)
works = st.sampled_from(["advance", "finish", "advance", "fail", "finish"])
amounts_kept = st.sampled_from([0, 1, 2])
pauses = st.one_of(st.none(), st.integers(0, 25))
"""After so many reads another collector comes between; None: nobody does."""
runs = st.sampled_from([run for run, _ in RUNS])


@dataclass
class Process:
    """A process that holds, or believes to hold, a run. `owed` must be repeated before anything else."""

    run: str
    session: str
    writer: RunWriter
    owed: Callable[[RunWriter], None] | None = None


def claim_at_last(store: Store, run: str) -> RunWriter:
    """A new session that asks for a retry; a run that just ran out of idle claims is asked twice."""
    for session in ("last", "very-last"):
        try:
            return claimed(store, session, run, retry_failed=True)
        except RunFailed:
            continue
    raise AssertionError(f"{run} cannot be claimed")


def with_faults(
    store: Store, faults: list[Fault | None], act: Callable[[], Answer], pause: int | None = None
) -> Answer | None:
    """Run `act` under a schedule of faults; None when it does not come to its end. After `pause` reads `sweep` acts."""
    store.schedule, store.sweep_after = list(faults), pause
    try:
        return act()
    except (Killed, StoreError):
        return None
    finally:
        store.schedule, store.sweep_after = [], None
