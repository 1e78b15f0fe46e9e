"""Long reads from a bucket: credentials that expire, an outage, objects that change, rights that are missing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import torch
from pyarrow import fs

from ray_darts.artifacts.s3_files import S3Files
from ray_darts.config import StoreSettings, load_config
from ray_darts.data.batch import Shard
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import ImageSet, load_images
from ray_darts.data.locations import asking
from ray_darts.errors import DataError
from tests.artifacts.relay import Relay, relaying
from tests.artifacts.servers import ministack
from tests.data.files import png, random_pixels, write_parquet
from tests.data.loading import assert_equal, batches

pytestmark = pytest.mark.slow

LIFE_S = float(os.environ.get("RAY_DARTS_TEST_CREDENTIALS_LIFE_S", "3"))
"""Set to 60 for three minutes of reads."""
PIXELS = random_pixels(120)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the data set s3://data/set, two Parquet files."""
    folder = tmp_path_factory.mktemp("bucket")
    with ministack(folder) as url:
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_bucket(Bucket="data")
        for number in range(2):
            encoded: list[bytes | None] = [png(picture) for picture in PIXELS[60 * number : 60 * number + 60]]
            file = write_parquet(folder / f"{number}.parquet", encoded, [0, 1] * 30)
            client.upload_file(str(file), "data", f"set/{number}.parquet")
        for number in range(1005):
            client.put_object(Bucket="data", Key=f"many/{number:04d}.parquet", Body=b"")
        client.close()
        yield url


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def load(url: str, folder: Path, mode: str, path: str = "s3://data/set", **store: Any) -> ImageSet:
    settings = StoreSettings(endpoint_url=url, **store)
    data = {"source": "parquet", "path": path, "loading": mode, "cache_path": str(folder / "cache")}
    with asking(S3Files(settings)):
        return load_images(Images.model_validate({"padding": 1, "flip": True, **data}), 10**9)


def test_a_bucket_gives_the_same_batches_whichever_way_it_is_read(server: str, tmp_path: Path) -> None:
    memory, mapped, streamed = (load(server, tmp_path, mode) for mode in ("memory", "mapped", "streamed"))
    assert memory.digests == mapped.digests == streamed.digests
    assert_equal(batches(mapped), batches(memory))
    assert_equal(batches(streamed), batches(memory))


class ShortLived(Relay):
    """Refuses session tokens after the time that is written in them."""

    refused = 0

    def enter(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        token = next(value for name, value in headers.items() if name.lower() == "x-amz-security-token")
        if time.time() < float(token):
            return None
        self.refused += 1
        return 400, "ExpiredToken"


def test_reads_outlive_any_one_set_of_credentials(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "lend.py"
    program.write_text(
        "import json, datetime, time\n"
        f"until = time.time() + {LIFE_S}\n"
        "at = datetime.datetime.fromtimestamp(until, datetime.timezone.utc).isoformat()\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': 'test', 'SecretAccessKey': 'test', "
        "'SessionToken': str(until), 'Expiration': at}))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[profile short]\nregion = us-east-1\ncredential_process = {sys.executable} {program}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with relaying(server, kind=ShortLived) as (relay, url):
        data = load(url, tmp_path, "streamed", profile="short")
        series = data.pixels.series(lambda position: np.arange(position % 100, position % 100 + 10), 10**6)
        began_s, position = time.monotonic(), 0
        while time.monotonic() < began_s + 3 * LIFE_S:
            expected = PIXELS[position % 100 : position % 100 + 10]
            assert np.array_equal(series.at(position).numpy(), expected)
            position += 1
            time.sleep(0.05)
        assert isinstance(relay, ShortLived)
        assert relay.refused == 0
        assert len(relay.requests) > 3 * LIFE_S


def test_an_outage_in_the_middle_of_reading_is_waited_for(server: str, tmp_path: Path) -> None:
    with relaying(server) as (relay, url):
        data = load(url, tmp_path, "streamed", retry_s=0.0)
        series = data.pixels.series(lambda position: np.arange(position, position + 10), 100)
        assert np.array_equal(series.at(0).numpy(), PIXELS[:10])
        until = time.monotonic() + 4
        relay.replaces = lambda method, status: (503, "SlowDown") if time.monotonic() < until else None
        for position in range(1, 30):
            assert np.array_equal(series.at(position).numpy(), PIXELS[position : position + 10])
        assert time.monotonic() > until


class Refusing(Relay):
    """Denies every GET whose path holds `what`."""

    what = ""

    def enter(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        return (403, "AccessDenied") if method == "GET" and self.what in path else None


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("list-type=2", r"denies set/ \(AccessDenied\): the right s3:ListBucket is missing"),
        (
            "set/1.parquet",
            r"denies set/1\.parquet \(AccessDenied\): the right s3:GetObject .* is missing",
        ),
    ],
)
def test_a_missing_right_is_named_with_its_key(server: str, tmp_path: Path, what: str, message: str) -> None:
    with relaying(server, kind=Refusing) as (relay, url):
        assert isinstance(relay, Refusing)
        relay.what = what
        with pytest.raises(DataError, match=message):
            load(url, tmp_path, "memory")


def test_an_object_that_was_replaced_is_refused_and_not_mixed(server: str, tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=server)
    for number in range(2):
        client.copy_object(Bucket="data", Key=f"changing/{number}.parquet", CopySource=f"data/set/{number}.parquet")
    data = load(server, tmp_path, "streamed", "s3://data/changing")
    client.copy_object(Bucket="data", Key="changing/1.parquet", CopySource="data/set/0.parquet")
    client.close()
    streams = data.streams(load_config("digits", overrides=["search.batch_size=60"]).search, 0)
    with pytest.raises(DataError, match=r"data/changing/1\.parquet was replaced after it was listed: begin again"):
        streams.bilevel_batches(0, 0, Shard(), CPU)


def test_a_listing_of_more_than_a_page_is_read_to_its_end(server: str, tmp_path: Path) -> None:
    filesystem, path = S3Files(StoreSettings(endpoint_url=server)).open("s3://data/many")
    assert len(filesystem.get_file_info(fs.FileSelector(path))) == 1005
    assert filesystem.get_file_info(path).type == fs.FileType.Directory
    assert filesystem.get_file_info("data/nothing").type == fs.FileType.NotFound
    folders = [entry.base_name for entry in filesystem.get_file_info(fs.FileSelector("data"))]
    assert {"many", "set"} <= set(folders)
