"""Data behind s3:// addresses, on a real server over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from pyarrow import fs

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import load_images
from ray_darts.data.locations import asking
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.sources import open_text
from ray_darts.data.text.streams import load_text as load_whole_text
from ray_darts.data.text.test_set import load_test_text
from ray_darts.data.text.vocabulary import Vocabulary
from ray_darts.errors import DataError
from tests.artifacts.servers import ministack
from tests.data.decoded import pixels_of_set
from tests.data.files import png, random_pixels, write_parquet
from tests.data.held_out import load, opened
from tests.data.texts import text_set

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`s3://data` with a Parquet set below `images` and texts below `text`, reached by AWS's standard settings."""
    folder = tmp_path_factory.mktemp("bucket")
    with ministack(folder) as url, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", url)
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="data")
        file = write_parquet(folder / "x.parquet", [png(picture) for picture in random_pixels(10)], [0, 1] * 5, True)
        for name in ("train-00000.parquet", "test-00000.parquet"):
            client.upload_file(str(file), "data", f"images/data/{name}")
        for name in ("train", "valid"):
            client.put_object(Bucket="data", Key=f"text/{name}.txt", Body=f"the {name} text\n".encode())
        client.close()
        yield "s3://data"


@pytest.mark.parametrize("path", ["images", "images/", "images/data/train-00000.parquet"])
def test_parquet_files_are_read_from_a_bucket(bucket: str, path: str) -> None:
    data = load_images(Images(source="parquet", path=f"{bucket}/{path}"), 10**9)
    assert np.array_equal(pixels_of_set(data), random_pixels(10))


def test_texts_are_read_from_a_bucket(bucket: str) -> None:
    source = open_text(Text(source="files", path=f"{bucket}/text"))
    assert list(source.words("train")) == [["the", "train", "text", "<eos>"]]
    assert source.num_bytes("valid") == len("the valid text\n")


def test_a_place_in_a_bucket_that_holds_nothing_is_reported(bucket: str) -> None:
    with pytest.raises(DataError, match=r"s3://data/nothing holds no \.parquet files"):
        load_images(Images(source="parquet", path=f"{bucket}/nothing"), 10**9)


class OneService:
    """A service that nobody answers for."""

    def open(self, uri: str) -> tuple[fs.FileSystem, str]:
        filesystem = fs.S3FileSystem(
            anonymous=True, region="us-east-1", scheme="http", endpoint_override=self.endpoint(uri), connect_timeout=1
        )
        return filesystem, uri.removeprefix("s3://")

    def endpoint(self, uri: str) -> str:
        return "127.0.0.1:9"


def load_parquet() -> object:
    return load_images(Images(source="parquet", path="s3://data/x"), 10**9)


def load_text() -> object:
    return open_text(Text(source="files", path="s3://data/x")).num_bytes("train")


@pytest.mark.parametrize("load", [load_parquet, load_text])
def test_a_service_that_does_not_answer_is_named(load: Callable[[], object]) -> None:
    with (
        asking(OneService()),
        pytest.raises(DataError, match=r"data\.path s3://data/x cannot be reached at 127\.0\.0\.1:9: "),
    ):
        load()


def test_a_test_set_is_asked_of_the_service_that_the_data_was_loaded_with(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [png(picture) for picture in random_pixels(10)], [0, 1] * 5)
    with asking(OneService()):
        data = load("parquet", tmp_path, test_path="s3://data/x")
    with pytest.raises(DataError, match=r"data\.test_path s3://data/x cannot be reached at 127\.0\.0\.1:9: "):
        opened(data)


def test_a_test_text_is_asked_of_the_service_that_the_data_was_loaded_with() -> None:
    words = np.arange(10, dtype=np.int32)
    settings = Text(source="files", path="s3://data/x")
    data = text_set(words, words, Vocabulary(("<unk>", "<eos>")), settings, s3=OneService())
    with pytest.raises(DataError, match=r"data\.path s3://data/x cannot be reached at 127\.0\.0\.1:9: "):
        load_test_text(data)


def test_a_loaded_text_keeps_its_service(tmp_path: Path) -> None:
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text("a b")
    service = OneService()
    with asking(service):
        assert load_whole_text(Text(source="files", path=str(tmp_path)), 10**9).s3 is service
