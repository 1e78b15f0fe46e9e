from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.writer import RunWriter, claim_run
from ray_darts.errors import StoreUnavailable, Superseded
from ray_darts.orchestration import run_sink
from ray_darts.orchestration.assignment import new_session, owner_of
from ray_darts.orchestration.run_sink import Committer, RunSink
from ray_darts.orchestration.runtime_hooks import NoHooks
from ray_darts.protocols.task import Snapshot
from ray_darts.tasks.collectives import SingleRank
from ray_darts.tasks.metrics import EpochMetrics
from tests.orchestration.tiny import ALONE

PATIENT_S = 60.0


class FailingStore(LocalStore):
    """A folder whose writes fail as long as `down` is set; counts the attempts."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.down = threading.Event()
        self.refused = 0

    def put_if_absent(self, key: str, data: bytes) -> None:
        if self.down.is_set():
            self.refused += 1
            raise StoreUnavailable(f"no answer for {key}")
        super().put_if_absent(key, data)


@pytest.fixture
def store(tmp_path: Path) -> FailingStore:
    return FailingStore(tmp_path)


def claimed(store: LocalStore) -> RunWriter:
    return claim_run(store, "e", "first-order-seed-0", owner_of(new_session()), "d" * 64, ALONE)


def snapshot(first: int, last: int) -> Snapshot:
    rows = last - first + 1
    return Snapshot(
        step=last,
        epoch=0,
        first_step=first,
        rows={"alphas": np.full((rows, 3), float(last), np.float32)},
        epochs=np.zeros(rows, np.int32),
        metrics=[],
        tensors={"weights": np.arange(4.0)},
        state={"step": last},
    )


def committer_of(writer: RunWriter, give_up_s: float = PATIENT_S, max_pending: int = 2) -> Committer:
    return Committer(writer, total_steps=9, max_pending=max_pending, give_up_s=give_up_s)


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("waited a minute in vain")


def test_what_was_submitted_is_durable_after_close(store: FailingStore) -> None:
    writer = claimed(store)
    committer = committer_of(writer)
    committer.submit(snapshot(1, 2))
    committer.submit(snapshot(3, 5))
    committer.close()
    assert writer.step == committer.durable_step == 5
    assert writer.record.total_steps == 9
    checkpoint = writer.load_checkpoint()
    assert checkpoint is not None
    assert checkpoint.state == {"step": 5}


def test_the_second_commit_says_what_the_first_one_cost(store: FailingStore) -> None:
    writer = claimed(store)
    committer = committer_of(writer)
    committer.submit(snapshot(1, 1))
    committer.submit(snapshot(2, 2))
    committer.close()
    assert writer.record.commit_seconds is not None
    assert writer.record.commit_seconds > 0


def test_submitting_does_not_wait_for_a_store_that_is_down(store: FailingStore) -> None:
    writer = claimed(store)
    store.down.set()
    committer = committer_of(writer)
    committer.submit(snapshot(1, 1))
    assert not committer.is_full
    committer.submit(snapshot(2, 2))
    assert committer.is_full
    until(lambda: store.refused > 0)
    store.down.clear()
    committer.close()
    assert (committer.pending, committer.is_full, writer.step) == (0, False, 2)


def test_an_outage_that_lasts_too_long_is_a_failure_and_later_snapshots_are_dropped(store: FailingStore) -> None:
    writer = claimed(store)
    store.down.set()
    committer = committer_of(writer, give_up_s=0.1)
    committer.submit(snapshot(1, 1))
    until(lambda: committer.failure is not None)
    committer.submit(snapshot(2, 2))
    assert not committer.is_full
    store.down.clear()
    with pytest.raises(StoreUnavailable):
        committer.close()
    assert committer.durable_step == 0


def test_a_stop_does_not_wait_for_ever_for_a_store_that_is_down(store: FailingStore) -> None:
    writer = claimed(store)
    store.down.set()
    committer = committer_of(writer)
    committer.submit(snapshot(1, 1))
    with pytest.raises(StoreUnavailable):
        committer.close(0.05, stopped=lambda: True)
    until(lambda: committer.failure is not None)  # the thread ends, and with it what it logs


def test_a_newer_claim_ends_the_commits(store: FailingStore) -> None:
    writer = claimed(store)
    claimed(store)
    committer = committer_of(writer)
    committer.submit(snapshot(1, 1))
    with pytest.raises(Superseded):
        committer.close()
    assert isinstance(committer.failure, Superseded)


class ReversingWriter(RunWriter):
    """A writer whose mistake a retry would only repeat."""

    def advance(
        self,
        step: int,
        rows: Mapping[str, NDArray[np.float32]],
        epochs: NDArray[np.int32],
        metrics: Sequence[EpochMetrics],
        checkpoint: Checkpoint,
        commit_seconds: float | None = None,
        total_steps: int | None = None,
    ) -> None:
        raise ValueError("a mistake of ours")


def test_a_mistake_is_kept_for_the_loops_owner(store: FailingStore) -> None:
    writer = claimed(store)
    writer.__class__ = ReversingWriter
    committer = committer_of(writer)
    committer.submit(snapshot(1, 1))
    with pytest.raises(ValueError, match="a mistake of ours"):
        committer.close()


@pytest.mark.parametrize("first_s", [0.0, 3600.0])
def test_the_first_commit_of_a_start_does_not_wait_for_the_interval(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch, first_s: float
) -> None:
    monkeypatch.setattr(run_sink, "_FIRST_COMMIT_S", first_s)
    committer = committer_of(claimed(store))
    sink = RunSink(3600.0, 3600.0, SingleRank(), torch.device("cpu"), NoHooks(), committer)
    assert sink.wants().commit == (first_s == 0.0)
    sink.commit(snapshot(1, 1))
    assert not sink.wants().commit
    committer.close()
