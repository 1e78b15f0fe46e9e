"""A store that does not answer: how long a run waits for it, what it says meanwhile, and that a stop ends the wait.

The store is an S3 server behind a listener that accepts and never answers while it is silent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from ray_darts.artifacts import s3_requests
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.writer import claim_run
from ray_darts.config import OperationSettings, SearchConfig, StoreSettings
from ray_darts.errors import StoreUnavailable
from ray_darts.orchestration import rank_waiting
from ray_darts.orchestration.assignment import new_session, owner_of
from ray_darts.orchestration.rank_waiting import retry_during_outage
from ray_darts.orchestration.run_execution import RankContext
from ray_darts.orchestration.run_sink import Committer
from ray_darts.orchestration.runtime_hooks import NoHooks
from ray_darts.orchestration.sweep import _STOP_MARGIN_S
from ray_darts.protocols.task import StopReason
from tests.artifacts.buckets import fresh_uri, settings
from tests.artifacts.silent import SilentServer, silent_server
from tests.orchestration.test_run_sink import snapshot
from tests.orchestration.tiny import ALONE, assigned, is_clean, search_here, trace_digest
from tests.search.searches import tiny_config

RUN = "first-order-seed-0"
SLACK_S = 15.0  # for a machine that does much else
CALL_S = 28.0  # what one call to a silent server takes with the default settings

_Result = TypeVar("_Result")


def failing(times: int, result: _Result) -> Callable[[], _Result]:
    """A call that the store does not answer at first."""
    failures = [StoreUnavailable("no answer")] * times

    def call() -> _Result:
        if failures:
            raise failures.pop()
        return result

    return call


def test_calls_are_repeated_during_an_outage_and_the_log_says_what_waits(caplog: pytest.LogCaptureFixture) -> None:
    assert retry_during_outage(failing(2, 7), 60.0, "the checkpoint") == 7
    silent, back = caplog.messages
    assert silent == "the store does not answer: the checkpoint waits, for 60 s more at most: no answer"
    assert "answers again" in back
    assert "the checkpoint goes on" in back


def test_an_answer_at_once_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert retry_during_outage(failing(0, 7), 60.0, "the checkpoint") == 7
    assert caplog.messages == []


def test_an_outage_that_lasts_too_long_is_raised() -> None:
    with pytest.raises(StoreUnavailable, match="no answer"):
        retry_during_outage(failing(999, 7), 0.2, "the checkpoint")


def test_a_stop_ends_the_wait_at_the_next_failure() -> None:
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(True)
        return len(asked) > 1

    with pytest.raises(StoreUnavailable):
        retry_during_outage(failing(999, 7), 60.0, "the checkpoint", stopped=stopped)
    assert len(asked) == 2


def test_a_store_that_is_back_is_asked_again_within_ten_seconds() -> None:
    request_s = StoreSettings().read_timeout_s
    between_requests_s = max(rank_waiting._LONGEST_PAUSE_S, s3_requests._LONGEST_PAUSE_AFTER_SILENCE_S)
    assert request_s + between_requests_s <= 10


def test_the_command_waits_longer_than_its_runs_do() -> None:
    assert OperationSettings().stop_patience_s + _STOP_MARGIN_S == 180


@pytest.fixture
def server(aws: None, s3_server: str) -> Iterator[SilentServer]:
    with silent_server(s3_server) as server:
        yield server


def committing_in_silence(server: SilentServer) -> Committer:
    """A committer whose first commit the server never answers."""
    store = open_store(fresh_uri(), settings(server.url))
    writer = claim_run(store, "e", RUN, owner_of(new_session()), "d" * 64, ALONE)
    server.silence()
    committer = Committer(writer, total_steps=9, max_pending=2, give_up_s=600.0)
    committer.submit(snapshot(1, 1))
    return committer


def test_a_stop_waits_for_the_last_commit_no_longer_than_its_patience(
    server: SilentServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    committer = committing_in_silence(server)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="step 0 is durable") as raised:
        committer.close(1.0, stopped=lambda: True)
    assert time.monotonic() - began < 1.0 + SLACK_S < CALL_S
    assert raised.value.facts == {"step": 0}
    assert "waiting for the last commit, 1 s at most; step 0 is durable" in caplog.messages


def test_a_stop_ends_the_wait_for_the_last_commit_of_a_finished_search(server: SilentServer) -> None:
    committer = committing_in_silence(server)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="step 0 is durable"):
        committer.close(0.5, stopped=lambda: time.monotonic() - began > 1.0)
    assert 1.5 <= time.monotonic() - began < 1.5 + SLACK_S < CALL_S


class SilencingHooks(NoHooks):
    """Silences the server when the loop has asked `after` times, and asks for a stop from then on."""

    def __init__(self, server: SilentServer, after: int) -> None:
        self.server, self.after = server, after

    def stop_requested(self) -> StopReason | None:
        self.after -= 1
        if self.after >= 0:
            return None
        self.server.silence()
        return "interrupted"


def patient_config(*overrides: str) -> SearchConfig:
    return tiny_config("operation.commit_every_s=0", "operation.stop_patience_s=1", *overrides)


def test_a_stop_in_an_outage_ends_the_run_which_then_continues_to_the_same_result(
    server: SilentServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    untouched = LocalStore(tmp_path_factory.mktemp("untouched"))
    search_here(assigned(untouched, patient_config()), untouched)
    store = open_store(fresh_uri(), settings(server.url))
    assignment = assigned(store, patient_config())
    began = time.monotonic()
    outcome = search_here(assignment, store, RankContext(hooks=SilencingHooks(server, 3)))
    assert time.monotonic() - began < 1.0 + SLACK_S < CALL_S
    assert outcome.kind == "store_given_up"
    assert "operation.stop_patience_s" in outcome.detail
    server.speak()
    fresh: ObjectStore = open_store(store.uri, settings(server.url))
    assert search_here(assigned(fresh, patient_config()), fresh).kind == "finished"
    assert is_clean(fresh)
    assert trace_digest(fresh, RUN) == trace_digest(untouched, RUN)


def test_a_stop_ends_the_wait_for_a_claim(server: SilentServer) -> None:
    uri = fresh_uri()
    assignment = assigned(open_store(uri, settings(server.url)), patient_config())
    server.silence()
    store = open_store(uri, settings(server.url, read_timeout_s=0.5, retry_s=0))
    began = time.monotonic()
    outcome = search_here(assignment, store, RankContext(hooks=SilencingHooks(server, 0)))
    assert time.monotonic() - began < 0.5 + SLACK_S
    assert outcome.kind == "store_given_up"
