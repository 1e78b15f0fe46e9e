"""Stores for the tests of artifacts: a folder, and a bucket on a real server over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.config import StoreSettings
from tests.artifacts.relay import Relay, hide_missing, relaying
from tests.artifacts.servers import ministack

BUCKET = "darts"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one S3 server for all tests, with one bucket."""
    with ministack(tmp_path_factory.mktemp("ministack")) as url:
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield url


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials as a node's own chain would find them, and nothing else of this machine."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def settings(url: str, **more: object) -> StoreSettings:
    """Settings of a bucket at `url`."""
    return StoreSettings.model_validate({"endpoint_url": url, "region": "us-east-1", **more})


def fresh_uri() -> str:
    """A place in the bucket that no other test uses."""
    return f"s3://{BUCKET}/{uuid4().hex}"


@pytest.fixture
def s3_store(s3_server: str, aws: None) -> ObjectStore:
    """An empty store in the bucket."""
    return open_store(fresh_uri(), settings(s3_server))


@pytest.fixture
def relay(s3_server: str) -> Iterator[tuple[Relay, str]]:
    """A relay in front of the server, and its URL."""
    with relaying(s3_server) as both:
        yield both


@pytest.fixture(params=["local", "s3", "s3-without-list"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    """Every kind of store in turn; the last one is not told of missing keys."""
    if request.param == "local":
        yield open_store(str(tmp_path / "store"))
        return
    request.getfixturevalue("aws")
    url: str = request.getfixturevalue("s3_server")
    if request.param == "s3":
        yield open_store(fresh_uri(), settings(url))
        return
    with relaying(url, hide_missing) as (_, hidden):
        yield open_store(fresh_uri(), settings(hidden))


@pytest.fixture
def hides_missing(request: pytest.FixtureRequest) -> bool:
    """Whether the store of this test answers 403 for a key that is missing."""
    return bool(request.node.callspec.params["store"] == "s3-without-list")
