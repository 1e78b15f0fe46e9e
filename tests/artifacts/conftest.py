"""Stores for the tests of artifacts: a folder, and a bucket on a real server over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from tests.artifacts.buckets import BUCKET, fresh_uri, settings
from tests.artifacts.gateway import gateway
from tests.artifacts.relay import Relay, hide_missing, relaying
from tests.artifacts.servers import ministack


@pytest.fixture
def s3_store(s3_server: str, aws: None) -> ObjectStore:
    """An empty store in the bucket."""
    return open_store(fresh_uri(), settings(s3_server))


@pytest.fixture
def relay(s3_server: str) -> Iterator[tuple[Relay, str]]:
    """A relay in front of the server, and its URL."""
    with relaying(s3_server) as both:
        yield both


@pytest.fixture(params=["local", "s3", "s3-without-list", "s3-bare-tags"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    """Every kind of store in turn; `s3-without-list` hides missing keys, `s3-bare-tags` behaves as Ceph RGW does."""
    if request.param == "local":
        yield open_store(str(tmp_path / "store"))
        return
    request.getfixturevalue("aws")
    url: str = request.getfixturevalue("s3_server")
    if request.param == "s3":
        yield open_store(fresh_uri(), settings(url))
        return
    front = relaying(url, hide_missing) if request.param == "s3-without-list" else gateway(url)
    with front as (_, fronted):
        yield open_store(fresh_uri(), settings(fronted))


@pytest.fixture
def hides_missing(request: pytest.FixtureRequest) -> bool:
    """Whether the store of this test answers 403 for a key that is missing."""
    return bool(request.node.callspec.params["store"] == "s3-without-list")


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """A server with an IAM user whose keys are checked: URL, access key, secret key."""
    with ministack(tmp_path_factory.mktemp("guarded"), "s3,iam") as url:
        root = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        iam = boto3.client("iam", endpoint_url=url, **root)
        iam.create_user(UserName="trainer")
        policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
        iam.put_user_policy(UserName="trainer", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="trainer")["AccessKey"]
        client = boto3.client("s3", endpoint_url=url, **root)
        client.create_bucket(Bucket=BUCKET)
        iam.close()
        client.close()
        yield url, key["AccessKeyId"], key["SecretAccessKey"]
