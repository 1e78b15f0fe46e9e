"""Compare-and-swap on servers that want If-Match differently: how many requests it costs, and that it always holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ray_darts.artifacts import s3
from ray_darts.artifacts.doctor import probe_store
from ray_darts.artifacts.objects import Conflict, ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.errors import MissingObject, StoreError
from tests.artifacts.buckets import fresh_uri, settings
from tests.artifacts.gateway import Gateway, Refusing, gateway
from tests.artifacts.relay import Relay
from tests.artifacts.test_objects import together

Wired = tuple[Relay, ObjectStore]


def methods(relay: Relay) -> list[str]:
    """The methods of the requests since the last call."""
    seen = [request.partition(" ")[0] for request in relay.requests]
    relay.requests.clear()
    return seen


@pytest.fixture
def behaved(aws: None, relay: tuple[Relay, str]) -> Wired:
    return relay[0], open_store(fresh_uri(), settings(relay[1]))


@pytest.fixture
def bare(aws: None, s3_server: str) -> Iterator[Wired]:
    with gateway(s3_server) as (relay, url):
        yield relay, open_store(fresh_uri(), settings(url))


def test_a_server_that_behaves_gets_one_request_per_swap(behaved: Wired) -> None:
    relay, store = behaved
    store.put("best", b"one")
    tag = store.get("best").etag
    methods(relay)
    store.compare_and_swap("best", b"two", tag)
    assert methods(relay) == ["PUT"]
    with pytest.raises(Conflict):
        store.compare_and_swap("best", b"three", tag)
    assert methods(relay) == ["PUT"]


def test_a_server_that_wants_bare_tags_is_asked_in_vain_once(bare: Wired) -> None:
    relay, store = bare
    store.put("best", b"one")
    tag = store.get("best").etag
    assert tag[0] == tag[-1] == '"'
    methods(relay)
    store.compare_and_swap("best", b"two", tag)
    assert methods(relay) == ["PUT", "GET", "PUT"]
    tag = store.get("best").etag
    methods(relay)
    store.compare_and_swap("best", b"three", tag)
    assert methods(relay) == ["PUT"]
    assert store.get("best").data == b"three"


def test_a_swap_by_an_old_tag_is_refused_before_and_after_the_quoting_is_known(bare: Wired) -> None:
    _, store = bare
    store.put("best", b"one")
    old = store.get("best").etag
    store.put("best", b"two")
    with pytest.raises(Conflict):
        store.compare_and_swap("best", b"three", old)
    store.compare_and_swap("best", b"three", store.get("best").etag)
    with pytest.raises(Conflict):
        store.compare_and_swap("best", b"four", old)
    assert store.get("best").data == b"three"


def test_a_swap_of_an_absent_key_is_missing_where_the_server_says_412(bare: Wired) -> None:
    _, store = bare
    for _ in range(2):
        with pytest.raises(MissingObject):
            store.compare_and_swap("absent", b"one", '"0"')
        store.put("best", b"one")
        store.compare_and_swap("best", b"two", store.get("best").etag)


def test_a_lost_reply_to_the_repeated_swap_is_no_second_swap(bare: Wired) -> None:
    relay, store = bare
    store.put("best", b"one")
    tag = store.get("best").etag
    store.compare_and_swap("best", b"two", tag)
    relay.lose_once("PUT", "/best")
    with pytest.raises(Conflict):  # the retry finds its own object: the caller reads it back
        store.compare_and_swap("best", b"three", store.get("best").etag)
    assert len(relay.lost) == 1
    assert store.get("best").data == b"three"


def test_races_that_are_answered_500_leave_one_winner(bare: Wired) -> None:
    relay, store = bare
    assert isinstance(relay, Gateway)
    for n in range(50):
        won: list[int] = []

        def race(writer: int, n: int = n, won: list[int] = won) -> None:
            try:
                store.put_if_absent(f"log/{n}", b"writer %d" % writer)
            except Conflict:
                return
            won.append(writer)

        together(8, race)
        assert store.get(f"log/{n}").data == b"writer %d" % won[0]
        assert len(won) == 1
        if relay.races_lost > 1:
            return
    raise AssertionError("no writer lost a race in 50 rounds of 8")


def test_the_doctor_finds_every_promise_on_a_server_that_wants_bare_tags(bare: Wired) -> None:
    assert [check.name for check in probe_store(bare[1]) if not check.ok] == []


def test_a_bare_tag_that_a_server_ignores_is_found_by_the_doctor(aws: None, s3_server: str) -> None:
    class Careless(Gateway):
        """Refuses a quoted tag, and takes a bare one for no condition at all."""

        def enter(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
            answer = super().enter(method, path, headers)
            headers.pop("If-Match", None)
            return answer

    with gateway(s3_server, Careless) as (_, url):
        broken = {check.name: check.detail for check in probe_store(open_store(fresh_uri(), settings(url)))}
    assert "If-Match is ignored" in broken["compare and swap"]


@pytest.mark.parametrize(
    ("etag", "other"), [('"abc"', "abc"), ("abc", '"abc"'), ('W/"abc"', 'W/"abc"'), ('"', '"""'), ("", '""')]
)
def test_the_other_quoting_of_a_tag(etag: str, other: str) -> None:
    assert s3.requoted(etag) == other


def test_a_server_that_refuses_both_quotings_is_a_conflict(aws: None, s3_server: str) -> None:
    with gateway(s3_server, Refusing) as (relay, url):
        store = open_store(fresh_uri(), settings(url))
        store.put("best", b"one")
        tag = store.get("best").etag
        methods(relay)
        with pytest.raises(StoreError):
            store.compare_and_swap("best", b"two", tag)
        assert methods(relay) == ["PUT", "GET", "PUT"]
