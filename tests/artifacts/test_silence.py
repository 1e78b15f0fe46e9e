"""A server that accepts and never answers: what a call takes, what is logged, and when its return is noticed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from ray_darts.artifacts import s3_requests
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.config import StoreSettings
from ray_darts.errors import StoreUnavailable
from tests.artifacts.buckets import fresh_uri, settings
from tests.artifacts.relay import Relay
from tests.artifacts.silent import SilentServer, silent_server

SLACK_S = 20.0  # for a machine that does much else; each limit below is far from it


@pytest.fixture
def server(aws: None, s3_server: str) -> Iterator[SilentServer]:
    with silent_server(s3_server) as server:
        yield server


def impatient(server: SilentServer, **more: object) -> ObjectStore:
    return open_store(fresh_uri(), settings(server.url, read_timeout_s=0.5, connect_timeout_s=1, **more))


def seconds_of_failing(store: ObjectStore, data: bytes = b"one") -> float:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.put("a", data)
    return time.monotonic() - began


@pytest.mark.parametrize("num_bytes", [3, 20_000_000], ids=["small", "never read"])
def test_a_call_ends_after_its_time_and_one_try(server: SilentServer, num_bytes: int) -> None:
    store = impatient(server, retry_s=2)
    server.silence()
    seconds = seconds_of_failing(store, b"x" * num_bytes)
    assert 1.0 < seconds < 2 + 1 + 0.5 + SLACK_S


def test_one_layer_tries_again(server: SilentServer) -> None:
    store = impatient(server, attempts=3)
    server.silence()
    seconds_of_failing(store)
    assert server.unanswered == 3


def test_a_body_that_never_comes_is_tried_again_by_the_same_layer(aws: None, relay: tuple[Relay, str]) -> None:
    store = open_store(fresh_uri(), settings(relay[1], attempts=3))
    store.put("a", b"one")
    relay[0].requests.clear()
    relay[0].loses = lambda method, path: True
    with pytest.raises(StoreUnavailable):
        store.get("a")
    assert len(relay[0].requests) == 3


def test_silence_is_logged_once_while_a_call_waits_and_so_is_its_end(
    server: SilentServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_requests, "_SILENT_S", 0.6)
    store = impatient(server, retry_s=120)
    server.silence()
    caller = threading.Thread(target=store.put, args=("a", b"one"))
    caller.start()
    for _ in range(600):
        if caplog.messages:
            break
        time.sleep(0.1)
    assert caller.is_alive()
    server.speak()
    caller.join(SLACK_S)
    assert not caller.is_alive()
    silent, back = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "does not answer for a: Read timeout" in silent.getMessage()
    assert "store.read_timeout_s" in silent.getMessage()
    assert back.getMessage() == f"{store.uri} answers again"


def test_a_server_that_is_back_is_noticed_although_the_old_connections_stay_silent(server: SilentServer) -> None:
    store = impatient(server, retry_s=120)
    store.put("a", b"one")
    server.silence()
    caller = threading.Thread(target=store.put, args=("a", b"two"))
    caller.start()
    caller.join(3)
    assert caller.is_alive()
    server.speak()
    back = time.monotonic()
    caller.join(60)
    assert time.monotonic() - back < 0.5 + s3_requests._LONGEST_PAUSE_AFTER_SILENCE_S + SLACK_S
    assert store.get("a").data == b"two"


def test_with_the_defaults_a_server_that_is_back_is_noticed_within_ten_seconds() -> None:
    assert StoreSettings().read_timeout_s + s3_requests._LONGEST_PAUSE_AFTER_SILENCE_S <= 10
    assert s3_requests._LONGEST_PAUSE_S <= 10


def test_a_busy_server_is_given_more_time_than_a_silent_one() -> None:
    pauses = [max(s3_requests._pause_s(5000, was_answered=answered) for _ in range(200)) for answered in (True, False)]
    assert pauses[0] > s3_requests._LONGEST_PAUSE_AFTER_SILENCE_S >= pauses[1]
