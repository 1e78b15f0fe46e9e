"""What doctor says of the S3 server against what the server does, measured with requests of the tests' own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ray_darts.artifacts.doctor import probe_store
from ray_darts.artifacts.objects import ObjectStore
from tests.artifacts.buckets import BUCKET


class Requests:
    """Single requests to one key, none of them sent twice; each answer is a status."""

    def __init__(self, url: str, key: str) -> None:
        retries = {"total_max_attempts": 1}
        self._client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=Config(retries=retries))
        self._address = {"Bucket": BUCKET, "Key": key}
        self.etag = ""

    def put(self, data: bytes, **conditions: str) -> int:
        """Send a PUT; `etag` is then what the server answered, where it stored something."""
        return self._status(lambda: self._client.put_object(**self._address, Body=data, **conditions))

    def get(self) -> int:
        return self._status(lambda: self._client.get_object(**self._address))

    def data(self) -> bytes:
        """The object as it is now."""
        data: bytes = self._client.get_object(**self._address)["Body"].read()
        return data

    def delete(self) -> int:
        return self._status(lambda: self._client.delete_object(**self._address))

    def is_listed(self) -> bool:
        listing = self._client.list_objects_v2(Bucket=BUCKET, Prefix=self._address["Key"])
        return [entry["Key"] for entry in listing.get("Contents", [])] == [self._address["Key"]]

    def close(self) -> None:
        self._client.close()

    def _status(self, request: Callable[[], dict[str, Any]]) -> int:
        try:
            answer = request()
        except ClientError as error:
            status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return status
        self.etag = answer.get("ETag", self.etag)
        done: int = answer["ResponseMetadata"]["HTTPStatusCode"]
        return done


@pytest.fixture
def requests(s3_store: ObjectStore, s3_server: str) -> Iterator[Requests]:
    requests = Requests(s3_server, f"{s3_store.uri.removeprefix(f's3://{BUCKET}/')}/measured")
    yield requests
    requests.close()


def creates(requests: Requests) -> bool:
    return requests.put(b"one") == 200


def creates_once(requests: Requests) -> bool:
    first, second = (requests.put(data, IfNoneMatch="*") for data in (b"one", b"two"))
    return (first, second, requests.data()) == (200, 412, b"one")


def reads_what_was_put(requests: Requests) -> bool:
    requests.put(b"one")
    return requests.data() == b"one"


def swaps_by_the_right_tag_alone(requests: Requests) -> bool:
    """With the tag as the server sent it, or without its quotes: either may be wanted, both must be conditions."""
    requests.put(b"one")
    old = requests.etag
    if requests.put(b"two", IfMatch=old) != 200 and requests.put(b"two", IfMatch=old.strip('"')) != 200:
        return False
    refused = [requests.put(b"three", IfMatch=tag) for tag in (old, old.strip('"'))]
    return (refused, requests.data()) == ([412, 412], b"two")


def misses(requests: Requests) -> bool:
    return requests.get() == 404


def lists(requests: Requests) -> bool:
    requests.put(b"one")
    return requests.is_listed()


def deletes(requests: Requests) -> bool:
    requests.put(b"one")
    return (requests.delete(), requests.get()) == (204, 404)


MEASURED = {
    "create": creates,
    "conditional create": creates_once,
    "read after write": reads_what_was_put,
    "compare and swap": swaps_by_the_right_tag_alone,
    "missing keys": misses,
    "listing": lists,
    "delete": deletes,
}


@pytest.mark.parametrize("promise", MEASURED)
def test_the_doctor_says_what_was_measured(promise: str, s3_store: ObjectStore, requests: Requests) -> None:
    verdicts = {check.name: check for check in probe_store(s3_store)}
    assert verdicts[promise].ok == MEASURED[promise](requests), verdicts[promise].detail


def test_bytes_that_were_changed_on_the_way_are_never_stored(requests: Requests) -> None:
    other = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert requests.put(b"one", ContentMD5=other) == 400
    assert requests.get() == 404
