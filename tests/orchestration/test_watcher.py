from __future__ import annotations

import time
import urllib.error
from collections.abc import Iterator

import pytest

from ray_darts.orchestration.watcher import Metadata, Notice, read_notice
from tests.orchestration.metadata_server import MetadataServer


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with MetadataServer() as running:
        yield running


def test_no_notice_as_long_as_the_cloud_has_none(server: MetadataServer) -> None:
    assert Metadata(server.address).notice() is None


def test_a_notice_says_when_the_machine_goes(server: MetadataServer) -> None:
    server.take_away(at=time.time() + 90)
    notice = Metadata(server.address).notice()
    assert notice is not None
    assert notice.action == "terminate"
    assert 85 < notice.deadline - time.time() <= 90


def test_a_session_token_is_asked_for_once_and_renewed_when_refused(server: MetadataServer) -> None:
    metadata = Metadata(server.address)
    metadata.notice()
    metadata.notice()
    assert server.tokens_given == 1
    server.forget_tokens()
    with pytest.raises(urllib.error.HTTPError):
        metadata.notice()
    assert metadata.notice() is None
    assert server.tokens_given == 2


def test_a_service_that_is_not_there_is_an_os_error() -> None:
    with MetadataServer() as gone:
        address = gone.address
    with pytest.raises(OSError):
        Metadata(address).notice()


def test_times_are_utc() -> None:
    assert read_notice('{"action": "stop", "time": "1970-01-01T00:01:40Z"}') == Notice("stop", 100.0)


@pytest.mark.parametrize("text", ["", "[]", '{"action": "stop"}', '{"action": 1, "time": "1970-01-01T00:01:40Z"}'])
def test_what_is_no_notice_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_notice(text)
