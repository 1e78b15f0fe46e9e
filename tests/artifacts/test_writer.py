"""What a writer makes durable, how it is fenced, and that every call may be repeated."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import JsonValue

from ray_darts.artifacts.answer import SEARCH_DOCUMENTS
from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.log_rules import broken_rules
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.writer import RunWriter
from ray_darts.errors import NonFiniteAlphas, StoreDenied, StoreUnavailable, Superseded
from ray_darts.tasks.metrics import EpochMetrics
from tests.artifacts.memory_store import Fault, MemoryStore
from tests.artifacts.runs import (
    KEYS,
    LAYOUT,
    advance,
    answer,
    checkpoint_after,
    claimed,
    finish,
    whole_run,
)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def rows(writer: RunWriter, step: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    num_rows = step - writer.step
    return {"alphas": np.zeros((num_rows, LAYOUT.num_alphas), np.float32)}, np.zeros(num_rows, np.int32)


def test_a_checkpoint_comes_back_exactly(store: MemoryStore) -> None:
    writer = claimed(store)
    tensors: dict[str, NDArray[np.generic]] = {
        "matrix": np.arange(12, dtype=np.float32).reshape(3, 4).T,
        "scalar": np.array(0.1),
        "empty": np.zeros((0, 3), np.int64),
        "flags": np.array([True, False]),
    }
    state = {"step": 2, "position": [1, 2], "rate": 0.1, "name": "é", "nothing": None}
    writer.advance(2, *rows(writer, 2), [], Checkpoint(tensors, state))
    seen = claimed(store, "b").load_checkpoint()
    assert seen is not None
    assert seen.state == state
    assert seen.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert seen.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(seen.tensors[name], tensor, strict=True)


def test_a_commit_without_rows_still_carries_its_epoch(store: MemoryStore) -> None:
    writer = claimed(store)
    advance(writer, 2)
    epoch = EpochMetrics(epoch=0, step=2, train_loss=1, validation_loss=2)
    writer.advance(2, *rows(writer, 2), [epoch], checkpoint_after(2))
    assert writer.record.streams == {}
    assert writer.record.latest["train_loss"] == 1
    assert list(broken_rules([entry.record for entry in read_log(store, KEYS)])) == []


def test_the_tip_alone_gives_the_last_epoch_and_the_total(store: MemoryStore) -> None:
    advance(claimed(store), 4)
    record = claimed(store, "b").record
    assert record.kind == "claim"
    assert record.total_steps == 9
    assert record.latest == {
        "epoch": 0,
        "step": 3,
        "train_loss": 1.0,
        "validation_loss": 2.0,
        **{f"{cell}.{name}": value for cell in ("normal", "reduction") for name, value in _CELL.items()},
    }


_CELL = {"entropy": 2.0, "skips": 1, "parameter_free": 1}


@pytest.mark.parametrize(
    ("num_rows", "width", "num_epochs"), [(1, LAYOUT.num_alphas, 1), (2, LAYOUT.num_alphas, 3)], ids=["rows", "epochs"]
)
def test_rows_that_do_not_fill_the_steps_are_refused(
    store: MemoryStore, num_rows: int, width: int, num_epochs: int
) -> None:
    writer = claimed(store)
    before = dict(store.objects)
    alphas = np.zeros((num_rows, width), np.float32)
    with pytest.raises(ValueError, match="need 2 rows"):
        writer.advance(2, {"alphas": alphas}, np.zeros(num_epochs, np.int32), [], checkpoint_after(2))
    assert store.objects == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_alpha_is_never_written(store: MemoryStore, value: float) -> None:
    writer = claimed(store)
    alphas, epochs = rows(writer, 2)
    alphas["alphas"][1, 7] = value
    before = dict(store.objects)
    with pytest.raises(NonFiniteAlphas):
        writer.advance(2, alphas, epochs, [], checkpoint_after(2))
    assert store.objects == before


@pytest.mark.parametrize("fault", ["refused", "lost", "retried"])
@pytest.mark.parametrize("at", range(5))
def test_an_advance_repeated_after_any_fault_is_done_once(store: MemoryStore, fault: Fault, at: int) -> None:
    writer = claimed(store)
    store.schedule = [None] * at + [fault]
    try:
        advance(writer, 2)
    except StoreUnavailable:
        advance(writer, 2)
    advance(writer, 4)
    log = [entry.record for entry in read_log(store, KEYS)]
    assert [record.kind for record in log] == ["claim", "advance", "advance"]
    assert list(broken_rules(log)) == []
    assert len([key for key in store.objects if key.startswith(KEYS.parts)]) == 2
    assert len([key for key in store.objects if key.startswith(KEYS.checkpoints)]) == 4


@pytest.mark.parametrize("fault", ["refused", "lost", "retried"])
@pytest.mark.parametrize("end", ["finish", "fail"])
def test_an_end_repeated_after_any_fault_is_done_once(store: MemoryStore, fault: Fault, end: str) -> None:
    writer = claimed(store)
    advance(writer, 2)

    def act() -> None:
        if end == "finish":
            finish(writer)
        else:
            writer.fail("divergence", "ranks differ")

    store.schedule = [fault]
    try:
        act()
    except StoreUnavailable:
        act()
    assert [entry.record.kind for entry in read_log(store, KEYS)] == ["claim", "advance", end]


def test_an_unacknowledged_commit_must_be_repeated_before_another(store: MemoryStore) -> None:
    writer = claimed(store)
    store.schedule = ["refused"]
    with pytest.raises(StoreUnavailable):
        advance(writer, 2)
    with pytest.raises(ValueError, match="never acknowledged"):
        advance(writer, 3)
    with pytest.raises(ValueError, match="never acknowledged"):
        finish(writer)
    advance(writer, 2)
    assert writer.step == 2


def test_a_writer_whose_lost_record_was_followed_by_a_claim_learns_both(store: MemoryStore) -> None:
    writer = claimed(store, "a")
    store.schedule = [None, None, None, "lost"]
    with pytest.raises(StoreUnavailable):
        advance(writer, 2)
    successor = claimed(store, "b")
    assert successor.step == 2
    advance(writer, 2)
    assert writer.step == 2
    with pytest.raises(Superseded):
        advance(writer, 3)


def test_a_fenced_writer_leaves_nothing_visible(store: MemoryStore) -> None:
    zombie = claimed(store, "a")
    advance(zombie, 2)
    successor = claimed(store, "b")
    for _ in range(2):
        with pytest.raises(Superseded):
            advance(zombie, 3)
    advance(successor, 3)
    log = [entry.record for entry in read_log(store, KEYS)]
    assert {part.key.split(".e")[1][0] for record in log[2:] for part in record.parts} == {"2"}


def test_the_last_two_checkpoints_are_kept(store: MemoryStore) -> None:
    writer = claimed(store)
    for step in range(1, 6):
        advance(writer, step)
    assert checkpoint_steps(store) == {4, 5}
    successor = claimed(store, "b")
    advance(successor, 6)
    assert checkpoint_steps(store) == {4, 5, 6}
    advance(successor, 7)
    assert checkpoint_steps(store) == {4, 6, 7}, "the inherited one goes, the other's leftover is for gc"


def test_a_checkpoint_that_cannot_be_deleted_now_is_deleted_later(store: MemoryStore) -> None:
    writer = claimed(store)
    advance(writer, 1)
    advance(writer, 2)
    store.schedule = [*[None] * 5, "refused"]
    advance(writer, 3)
    assert checkpoint_steps(store) == {1, 2, 3}
    advance(writer, 4)
    assert checkpoint_steps(store) == {3, 4}


class _NoDelete(MemoryStore):
    def delete(self, key: str) -> None:
        raise StoreDenied("no right to delete", key=key)


def test_without_the_right_to_delete_a_run_goes_on_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    store = _NoDelete()
    whole_run(store)
    assert "ray-darts gc" in caplog.text


def test_a_head_that_cannot_be_written_stops_nobody(store: MemoryStore) -> None:
    writer = claimed(store)
    store.schedule = [*[None] * 4, "refused"]
    advance(writer, 2)
    assert claimed(store, "b").step == 2


@pytest.mark.parametrize("step", [0, 3])
def test_a_genotype_of_a_step_that_is_not_durable_is_refused(store: MemoryStore, step: int) -> None:
    writer = claimed(store)
    advance(writer, 2)
    before = dict(store.objects)
    with pytest.raises(ValueError, match="only 1 to 2"):
        writer.finish({**answer(2), "genotype_step": step}, SEARCH_DOCUMENTS)
    assert store.objects == before
    finish(writer)


@pytest.mark.parametrize(
    ("given", "documents", "message"),
    [
        ({}, SEARCH_DOCUMENTS, "genotype"),
        ({"genotype": {}, "genotype_step": 2, "metric": {"name": "m", "value": 0.5}}, SEARCH_DOCUMENTS, "direction"),
        ({}, ("weights.bin",), r"unknown documents weights\.bin"),
        ({"accuracy": float("nan")}, (), "finite"),
    ],
)
def test_an_answer_that_could_not_be_published_is_refused_before_it_is_put(
    store: MemoryStore, given: dict[str, JsonValue], documents: tuple[str, ...], message: str
) -> None:
    writer = claimed(store)
    advance(writer, 2)
    before = dict(store.objects)
    with pytest.raises(ValueError, match=message):
        writer.finish(given, documents)
    assert store.objects == before


def checkpoint_steps(store: MemoryStore) -> set[int]:
    names = [RunKeys.checkpoint_name(KEYS, key) for key in store.objects]
    return {name.step for name in names if name is not None}
