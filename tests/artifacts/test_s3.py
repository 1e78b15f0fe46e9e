"""What only a bucket can get wrong: credentials, rights, regions, outages. Against real servers over HTTP."""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pyarrow.dataset as ds
import pytest

from ray_darts.artifacts import s3
from ray_darts.artifacts.datasets import trace_dataset
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.config import StoreSettings
from ray_darts.errors import ConfigError, StoreDenied, StoreError, StoreUnavailable
from tests.artifacts.buckets import BUCKET, fresh_uri, settings
from tests.artifacts.relay import Relay
from tests.artifacts.runs import EXPERIMENT, LAYOUT, RUN, register, whole_run
from tests.artifacts.servers import free_port, moto


def test_a_whole_run_on_a_bucket_is_published_and_verified(s3_store: ObjectStore) -> None:
    register(s3_store)
    whole_run(s3_store)
    assert len(publish_run(s3_store, EXPERIMENT, RUN)) == 4
    assert verify_experiment(s3_store, EXPERIMENT).problems == []


def test_many_traces_on_a_bucket_are_one_dataset(s3_store: ObjectStore) -> None:
    runs = [(f"second-order-seed-{seed}", seed) for seed in range(2)]
    register(s3_store, *runs)
    for run, _ in runs:
        whole_run(s3_store, run=run, steps=3)
        publish_run(s3_store, EXPERIMENT, run)
    traces = trace_dataset(s3_store, EXPERIMENT)
    assert traces.count_rows() == 2 * 3 * LAYOUT.num_alphas
    assert traces.to_table(filter=ds.field("seed") == 1).num_rows == 3 * LAYOUT.num_alphas


def test_every_object_carries_its_sha256(s3_store: ObjectStore, s3_server: str) -> None:
    s3_store.put("a", b"one")
    client = boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1")
    (prefix,) = s3_store.uri.removeprefix(f"s3://{BUCKET}/").split("/")
    answer = client.head_object(Bucket=BUCKET, Key=f"{prefix}/a", ChecksumMode="ENABLED")
    client.close()
    assert base64.b64decode(answer["ChecksumSHA256"]) == hashlib.sha256(b"one").digest()


def test_the_right_keys_are_let_in(guarded: tuple[str, str, str], aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    url, key, secret = guarded
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    open_store(fresh_uri(), settings(url)).put("a", b"one")


def test_a_wrong_secret_is_distinguished_from_a_wrong_key(
    guarded: tuple[str, str, str], aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, key, _ = guarded
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreDenied, match="secret key does not belong"):
        open_store(fresh_uri(), settings(url)).put("a", b"one")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN000000000")
    with pytest.raises(StoreDenied, match="access key is unknown"):
        open_store(fresh_uri(), settings(url)).put("a", b"one")


def test_a_token_that_is_not_the_sessions_is_reported(
    aws: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with moto(tmp_path) as url:
        iam, sts, bucket = (
            boto3.client(name, endpoint_url=url, region_name="us-east-1") for name in ("iam", "sts", "s3")
        )
        iam.create_role(RoleName="trainer", AssumeRolePolicyDocument="{}")
        role = "arn:aws:iam::123456789012:role/trainer"
        lent = sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        bucket.create_bucket(Bucket=BUCKET)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", lent["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", lent["SecretAccessKey"])
        monkeypatch.setenv("AWS_SESSION_TOKEN", "an-older-token")
        with pytest.raises(StoreDenied, match="session token is not valid"):
            open_store(fresh_uri(), settings(url)).get("a")
        for client in (iam, sts, bucket):
            client.close()


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (400, "ExpiredToken", StoreDenied, "session token has expired"),
        (403, "RequestTimeTooSkewed", StoreDenied, "clock is off"),
        (403, "AccessDenied", StoreDenied, "s3:PutObject"),
        (503, "SlowDown", StoreUnavailable, "503 SlowDown"),
        (500, "InternalError", StoreUnavailable, "500 InternalError"),
        (409, "ConditionalRequestConflict", StoreUnavailable, "409"),
        (400, "BadDigest", StoreUnavailable, "BadDigest"),
        (501, "NotImplemented", StoreError, "ray-darts doctor"),
        (400, "InvalidRequest", StoreError, "400 InvalidRequest"),
    ],
)
def test_what_may_be_tried_again_is_distinguished_from_what_is_final(
    aws: None, relay: tuple[Relay, str], status: int, code: str, kind: type[StoreError], message: str
) -> None:
    relay[0].replaces = lambda method, seen: (status, code)
    with pytest.raises(kind, match=message) as raised:
        open_store(fresh_uri(), settings(relay[1], attempts=2)).put_if_absent("a", b"one")
    assert type(raised.value) is kind
    assert len(relay[0].requests) == (2 if kind is StoreUnavailable else 1)


def test_without_credentials_the_chain_is_named(aws: None, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreDenied, match="no usable credentials on this node"):
        open_store(fresh_uri(), settings(s3_server)).get("a")


def test_a_missing_bucket_is_no_missing_key(aws: None, s3_server: str) -> None:
    with pytest.raises(ConfigError, match="no such bucket"):
        open_store("s3://nowhere/prefix", settings(s3_server)).get("a")


def test_an_unknown_profile_is_reported(aws: None) -> None:
    with pytest.raises(ConfigError, match="nobody"):
        open_store("s3://bucket", StoreSettings(profile="nobody"))


def test_a_server_that_does_not_answer_is_unavailable(aws: None) -> None:
    store = open_store(fresh_uri(), settings(f"http://127.0.0.1:{free_port()}", attempts=1))
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.get("a")
    with pytest.raises(StoreUnavailable):
        list(store.list_objects(""))


def test_a_listing_that_loses_its_reply_is_tried_again(aws: None, relay: tuple[Relay, str]) -> None:
    store = open_store(fresh_uri(), settings(relay[1]))
    store.put("a/b", b"")
    relay[0].lose_once("GET", "list-type=2")
    assert [entry.key for entry in store.list_objects("a/")] == ["a/b"]
    assert len(relay[0].lost) == 1


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """A canary key, and every logger at its most talkative."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret-key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-session-token")
    caplog.set_level(logging.DEBUG)
    for name in ("boto3", "botocore", "urllib3"):
        caplog.set_level(logging.NOTSET, name)
    return caplog


def failing_run(relay: tuple[Relay, str]) -> str:
    """A run whose parts never get an answer; returns what it says."""
    store = open_store(fresh_uri(), settings(relay[1], attempts=2))
    register(store)
    relay[0].loses = lambda method, path: "/parts/" in path
    with pytest.raises(StoreUnavailable) as raised:
        whole_run(store)
    return f"{raised.value} {raised.value.facts} {store!r}"


def test_no_secret_and_no_signature_reaches_a_log(
    aws: None, relay: tuple[Relay, str], talkative: pytest.LogCaptureFixture
) -> None:
    message = failing_run(relay)
    assert "canary" not in talkative.text + message
    assert "AWS4-HMAC-SHA256" not in talkative.text


def test_a_signature_would_be_seen_if_botocore_were_not_kept_quiet(
    aws: None, relay: tuple[Relay, str], talkative: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_quiet_botocore", lambda: None)
    failing_run(relay)
    assert "AWS4-HMAC-SHA256" in talkative.text
    assert "canary-session-token" in talkative.text


class _Unending(BaseHTTPRequestHandler):
    """Answers 503 with a chunked body that never ends properly."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"5\r\n<Erro")
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_an_answer_cut_short_within_its_error_is_unavailable(aws: None) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Unending) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = open_store("s3://bucket/p", settings(f"http://127.0.0.1:{server.server_port}", attempts=2))
        with pytest.raises(StoreUnavailable):
            store.get("exp/best.json")
        server.shutdown()
