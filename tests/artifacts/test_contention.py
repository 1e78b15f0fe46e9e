"""A server that refuses conditions that hold, or lists without an end, is not asked for ever."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ray_darts.artifacts import contention
from ray_darts.artifacts.best import Best, offer_best
from ray_darts.artifacts.contention import ROUNDS
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.objects import Conflict, ObjectStore, Stored
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.errors import StoreError, StoreUnavailable
from tests.artifacts.buckets import fresh_uri, settings
from tests.artifacts.gateway import Gateway, Refusing, gateway
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import EXPERIMENT, RUN, claimed, register, whole_run

KEY = ExperimentKeys(EXPERIMENT).best
LONGEST_S = 60.0  # 12 rounds with pauses of at most a second each, on a machine that is busy


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many rounds, in less time."""
    monkeypatch.setattr(contention, "_LONGEST_PAUSE_S", 0.02)


def with_a_worse_best(store: ObjectStore) -> None:
    """A finished run that nothing of is published, and a best.json that it beats."""
    register(store, (RUN, 3), ("second-order-seed-4", 4))
    whole_run(store, run="second-order-seed-4", steps=2, value=0.1)
    publish_run(store, EXPERIMENT, "second-order-seed-4")
    whole_run(store, steps=2, value=0.9)


def test_publishing_ends_where_every_swap_is_refused_and_names_the_server(aws: None, s3_server: str) -> None:
    with gateway(s3_server, Refusing) as (relay, url):
        store = open_store(fresh_uri(), settings(url))
        with_a_worse_best(store)
        relay.requests.clear()
        began = time.monotonic()
        with pytest.raises(StoreError, match="If-Match") as raised:
            publish_run(store, EXPERIMENT, RUN)
        assert time.monotonic() - began < LONGEST_S
    for named in (url, store.uri, "ray-darts doctor"):
        assert named in str(raised.value)
    assert not isinstance(raised.value, StoreUnavailable)  # a retry would end alike
    swaps = [request for request in relay.requests if request.startswith("PUT") and KEY in request]
    assert len(swaps) == 2 * ROUNDS  # each quoted and bare


def test_publishing_ends_where_tags_are_weak(aws: None, s3_server: str, short_pauses: None) -> None:
    class Weak(Gateway):
        """Compares strongly, as RFC 9110 wants, with tags that it sends as weak ones."""

        def enter(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
            return (412, "PreconditionFailed") if headers.get("If-Match", "").startswith("W/") else None

        def header(self, name: str, value: str) -> str:
            return f"W/{value}" if name.lower() == "etag" else value

    with gateway(s3_server, Weak) as (_, url):
        store = open_store(fresh_uri(), settings(url))
        with_a_worse_best(store)
        assert store.get(KEY).etag.startswith('W/"')
        with pytest.raises(StoreError, match=r"must accept If-Match"):
            publish_run(store, EXPERIMENT, RUN)


class _ReadsLate(MemoryStore):
    """Another writer's record is in the way of each claim, and only the read right after the put sees it."""

    refused = False

    def put_if_absent(self, key: str, data: bytes) -> None:
        if "/log/" not in key:
            return super().put_if_absent(key, data)
        self.refused = True
        raise Conflict(f"{key} exists", key=key)

    def get(self, key: str) -> Stored:
        if "/log/" not in key or not self.refused:
            return super().get(key)
        self.refused = False
        return Stored(b"of another writer", "1", 0.0)


def test_a_claim_ends_where_the_record_in_its_way_is_read_too_late(short_pauses: None) -> None:
    store = _ReadsLate()
    register(store)
    with pytest.raises(StoreError, match=f"{ROUNDS} conditional writes .*/log/ failed.*every read that follows"):
        claimed(store)


class _Endless(BaseHTTPRequestHandler):
    """Says of each page of a listing that another one follows, and names the same one."""

    token = "<NextContinuationToken>again</NextContinuationToken>"

    def do_GET(self) -> None:
        body = f"<ListBucketResult><IsTruncated>true</IsTruncated>{self.token}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("token", [_Endless.token, ""], ids=["the same page", "no page"])
def test_a_listing_that_never_ends_is_refused(aws: None, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Endless, "token", token)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Endless) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        store = open_store("s3://bucket/p", settings(f"http://127.0.0.1:{server.server_port}"))
        with pytest.raises(StoreError, match="without an end"):
            store.list_folders("")
        server.shutdown()


def test_an_offer_that_is_always_overtaken_ends(short_pauses: None) -> None:
    store = MemoryStore()
    with_a_worse_best(store)
    offered = Best.from_bytes(store.objects[KEY], KEY)
    better = offered.model_copy(update={"run": "a"})
    store.overtake = lambda: store.put(KEY, offered.to_bytes())
    store.schedule = ["overtaken"] * ROUNDS
    with pytest.raises(StoreError, match=f"{ROUNDS} conditional writes of {KEY}"):
        offer_best(store, better)
    assert offer_best(store, better)
