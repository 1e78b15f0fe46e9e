"""Starts of a run are numbered, and how the last one ended is kept for the next one, once."""

from __future__ import annotations

import pytest

from ray_darts.errors import RankLost
from ray_darts.orchestration import starts
from ray_darts.orchestration.starts import RunStarts, clear_starts
from tests.orchestration.key_values import KeyValues, key_values

KEPT = (("start", "/1"), ("end", ""), ("step", ""), ("reason", ""))


@pytest.fixture(autouse=True)
def kv(monkeypatch: pytest.MonkeyPatch) -> KeyValues:
    return key_values(monkeypatch)


def test_an_end_is_read_once_and_replaced_by_a_later_one() -> None:
    run = RunStarts("session", "run")
    run.report_end("itself")
    assert run.take_end() == "itself"
    assert run.take_end() is None
    run.report_end("itself")
    run.report_end("node")
    assert run.take_end() == "node"


def test_the_last_durable_step_and_a_reason_are_kept() -> None:
    run = RunStarts("session", "run")
    assert (run.step(), run.reason()) == (0, None)
    run.report_step(7)
    run.report_step(9)
    run.report_reason("lost too often")
    assert (run.step(), run.reason()) == (9, "lost too often")
    assert RunStarts("session", "other").step() == 0


def test_starts_are_numbered_per_run_and_session() -> None:
    first, other = RunStarts("session", "run"), RunStarts("session", "other")
    assert [first.count(), first.count(), other.count(), RunStarts("session", "run").count()] == [1, 2, 1, 3]


def test_the_end_of_a_command_leaves_nothing_of_its_session(kv: KeyValues) -> None:
    for session in ("session", "session-2"):
        run = RunStarts(session, "run")
        run.count()
        run.report_end("process")
        run.report_step(1)
        run.report_reason("why")
    clear_starts("session")
    assert set(kv.values) == {f"{kind}/session-2/run{rest}".encode() for kind, rest in KEPT}


def test_a_cluster_that_does_not_answer_loses_the_rank_and_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> bool:
        raise ConnectionError("no answer")

    for name in ("put", "get", "delete"):
        monkeypatch.setattr(starts, f"kv_{name}", refuse)
    run = RunStarts("session", "run")
    run.report_end("process")
    assert (run.take_end(), run.step(), run.reason()) == (None, 0, None)
    with pytest.raises(RankLost, match="does not answer"):
        run.count()
