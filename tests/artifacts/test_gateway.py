"""The server of the tests that imitates Ceph's gateway answers as Ceph's own does (`make test-radosgw`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.artifacts.buckets import BUCKET, SERVER, fresh_uri
from tests.artifacts.gateway import gateway
from tests.artifacts.measuring import Requests
from tests.artifacts.test_objects import together

OTHER = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.fixture
def url(s3_server: str, aws: None) -> Iterator[str]:
    """Ceph's gateway, or where the tests run on another server the one that imitates it."""
    if SERVER == "radosgw":
        yield s3_server
        return
    with gateway(s3_server) as (_, imitating):
        yield imitating


@pytest.fixture
def requests(url: str) -> Iterator[Requests]:
    requests = Requests(url, f"{fresh_uri().removeprefix(f's3://{BUCKET}/')}/key")
    yield requests
    requests.close()


# Ceph 16.2.15, measured: what a PUT with a condition is answered where the key is there, and where it is not
TABLE = {
    "none": ("", "", 200, 200),
    "absent": ("IfNoneMatch", "*", 412, 200),
    "quoted": ("IfMatch", '"{etag}"', 412, 412),
    "bare": ("IfMatch", "{etag}", 200, 412),
    "another, quoted": ("IfMatch", f'"{OTHER}"', 412, 412),
    "another, bare": ("IfMatch", OTHER, 412, 412),
    "weak": ("IfMatch", 'W/"{etag}"', 412, 412),
}


@pytest.mark.parametrize(("name", "value", "there", "absent"), TABLE.values(), ids=TABLE)
def test_a_put_with_a_condition_is_answered_as_ceph_does(
    requests: Requests, name: str, value: str, there: int, absent: int
) -> None:
    assert requests.put(b"one") == 200
    condition = {name: value.format(etag=requests.etag.strip('"'))} if name else {}
    assert requests.put(b"two", **condition) == there
    assert requests.data() == (b"two" if there == 200 else b"one")
    assert requests.delete() == 204
    assert requests.put(b"two", **condition) == absent
    assert requests.get() == (200 if absent == 200 else 404)


def test_one_of_eight_racing_swaps_wins_and_the_others_are_412_or_500(requests: Requests) -> None:
    losers: Counter[int] = Counter()
    for _ in range(20):
        assert requests.put(b"one") == 200
        tag = requests.etag.strip('"')
        answers = [0] * 8

        def swap(writer: int, tag: str = tag, answers: list[int] = answers) -> None:
            answers[writer] = requests.put(b"writer %d" % writer, IfMatch=tag)

        together(8, swap)
        assert answers.count(200) == 1
        assert requests.data() == b"writer %d" % answers.index(200)
        losers.update(status for status in answers if status != 200)
    assert losers.keys() == {412, 500}
