"""The data of a config are asked from the service that the config names, as every worker opens them."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from ray_darts.errors import DataError
from ray_darts.orchestration.data_access import open_data
from tests.artifacts.servers import ministack
from tests.data.files import png, random_pixels, write_parquet
from tests.search.searches import tiny_config


def test_data_lie_where_the_store_settings_say_unless_the_data_name_another_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    file = write_parquet(tmp_path / "x.parquet", [png(picture) for picture in random_pixels(200)], [0, 1] * 100, True)
    here = tiny_config("data.source=parquet", f"data.path={file}", "data.fraction=1.0")
    with ministack(tmp_path) as url:
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        client.create_bucket(Bucket="data")
        client.upload_file(str(file), "data", "train.parquet")
        client.close()
        there = ("data.source=parquet", "data.path=s3://data", "data.fraction=1.0")
        for service in (f"store.endpoint_url={url}", f"data.endpoint_url={url}"):
            config = tiny_config(*there, service)
            assert open_data(config, 0).digests == open_data(here, 0).digests
            assert (config.identity(), config.digest()) == (here.identity(), here.digest())
    nowhere = tiny_config(*there, f"store.endpoint_url={url}", "data.endpoint_url=http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"data\.path s3://data cannot be reached at http://127\.0\.0\.1:9: "):
        open_data(nowhere, 0)
