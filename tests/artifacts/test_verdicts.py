"""What doctor says of the S3 server against what the server does, measured with requests of the tests' own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import pytest

from ray_darts.artifacts.doctor import check_store, probe_store
from ray_darts.artifacts.objects import ObjectStore
from tests.artifacts.buckets import BUCKET
from tests.artifacts.measuring import Requests


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


def refuses_another_objects_sha256(requests: Requests) -> bool:
    other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    return requests.put(b"one", ChecksumSHA256=other) == 400 and requests.get() == 404


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
    "checksums": refuses_another_objects_sha256,
    "listing": lists,
    "delete": deletes,
}


@pytest.mark.parametrize("promise", MEASURED)
def test_the_doctor_says_what_was_measured(promise: str, s3_store: ObjectStore, requests: Requests) -> None:
    verdicts = {check.name: check for check in probe_store(s3_store)}
    assert verdicts[promise].ok == MEASURED[promise](requests), verdicts[promise].detail


def test_runs_may_be_written_and_the_probe_is_gone(s3_store: ObjectStore) -> None:
    check_store(s3_store)
    assert list(s3_store.list_objects("")) == []


def test_bytes_that_were_changed_on_the_way_are_never_stored(requests: Requests) -> None:
    other = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert requests.put(b"one", ContentMD5=other) == 400
    assert requests.get() == 404
