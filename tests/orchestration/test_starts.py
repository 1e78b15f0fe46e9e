"""Starts of a run are numbered, and how the last one ended is kept for the next one, once."""

from __future__ import annotations

import pytest
import torch
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError

from ray_darts.errors import RankLost
from ray_darts.orchestration import starts
from ray_darts.orchestration.starts import EndObserver, RunStarts, clear_starts


class KeyValues:
    """The cluster's key-value store as a dict."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def put(self, key: bytes, value: bytes, overwrite: bool, namespace: bytes) -> bool:
        there = key in self.values
        if overwrite or not there:
            self.values[key] = value
        return there

    def get(self, key: bytes, namespace: bytes) -> bytes | None:
        return self.values.get(key)

    def delete(self, key: bytes, namespace: bytes) -> None:
        self.values.pop(key, None)

    def keys(self, prefix: bytes, namespace: bytes) -> list[bytes]:
        return [key for key in self.values if key.startswith(prefix)]


@pytest.fixture(autouse=True)
def kv(monkeypatch: pytest.MonkeyPatch) -> KeyValues:
    kept = KeyValues()
    for name in ("put", "get", "delete", "keys"):
        monkeypatch.setattr(starts, f"kv_{name}", getattr(kept, name))
    return kept


def out_of_memory() -> Exception:
    return OutOfMemoryError("the node ran low on memory")  # type: ignore[no-untyped-call]


def reclaimed() -> Exception:
    return NodeDiedError("the node was reclaimed")  # type: ignore[no-untyped-call]


def died(failure: Exception) -> Exception:
    return WorkerHealthCheckFailedError("a worker died", failure)


def raised(error: Exception) -> Exception:
    return UserExceptionWithTraceback(error, "a traceback")


def ends(*errors: Exception) -> bool:
    """What the next start learns of a start that ended with these errors of its ranks."""
    run = RunStarts("session", "run")
    EndObserver([run]).after_exception(None, dict(enumerate(errors)))
    return run.take_end()


@pytest.mark.parametrize(
    "errors",
    [
        [died(out_of_memory())],
        [raised(torch.AcceleratorError("an illegal memory access"))],
        [raised(RankLost("a collective broke")), died(out_of_memory())],
    ],
    ids=["out of memory", "broken device", "a peer out of memory"],
)
def test_memory_and_devices_are_ends_of_a_starts_own(errors: list[Exception]) -> None:
    assert ends(*errors)


@pytest.mark.parametrize(
    "errors",
    [
        [died(ActorDiedError())],
        [died(reclaimed())],
        [raised(RankLost("a collective broke")), died(ActorDiedError())],
    ],
    ids=["killed process", "lost machine", "killed peer"],
)
def test_killed_processes_and_lost_machines_are_not(errors: list[Exception]) -> None:
    assert not ends(*errors)


def test_an_end_is_read_once_and_replaced_by_a_later_one() -> None:
    run = RunStarts("session", "run")
    run.report_end(by_itself=True)
    assert run.take_end()
    assert not run.take_end()
    run.report_end(by_itself=True)
    run.report_end(by_itself=False)
    assert not run.take_end()


def test_starts_are_numbered_per_run_and_session() -> None:
    first, other = RunStarts("session", "run"), RunStarts("session", "other")
    assert [first.count(), first.count(), other.count(), RunStarts("session", "run").count()] == [1, 2, 1, 3]


def test_the_end_of_a_command_leaves_nothing_of_its_session(kv: KeyValues) -> None:
    for session in ("session", "session-2"):
        run = RunStarts(session, "run")
        run.count()
        run.report_end(by_itself=True)
    clear_starts("session")
    assert set(kv.values) == {b"start/session-2/run/1", b"end/session-2/run"}


def test_a_cluster_that_does_not_answer_loses_the_rank_and_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> bool:
        raise ConnectionError("no answer")

    for name in ("put", "get", "delete"):
        monkeypatch.setattr(starts, f"kv_{name}", refuse)
    run = RunStarts("session", "run")
    run.report_end(by_itself=True)
    assert not run.take_end()
    with pytest.raises(RankLost, match="does not answer"):
        run.count()
