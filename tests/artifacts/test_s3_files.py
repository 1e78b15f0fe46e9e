"""Which service is asked for an s3:// URI: the one that is named nearest, as boto3 finds it; on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow.fs as pafs
import pytest

from ray_darts.artifacts.s3_files import AMAZON, S3Files
from ray_darts.config import StoreSettings
from ray_darts.errors import ConfigError
from tests.artifacts.servers import free_port, ministack

KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """{name: URL} of two services, each with its name in s3://data/name."""
    folder = tmp_path_factory.mktemp("services")
    with ministack(folder) as first, ministack(folder) as second:
        urls = {"first": first, "second": second}
        for name, url in urls.items():
            client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS)
            client.create_bucket(Bucket="data")
            client.put_object(Bucket="data", Key="name", Body=name.encode())
            client.close()
        yield urls


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """AWS's config file, and no other AWS setting than those that a test makes."""
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path / "config"


def write_profile(file: Path, name: str, url: str) -> None:
    section = name if name == "default" else f"profile {name}"
    keys = "\n".join(f"{key} = {value}" for key, value in KEYS.items())
    with file.open("a") as opened:
        opened.write(f"[{section}]\nregion = us-east-1\nendpoint_url = {url}\n{keys}\n")


def asked(files: S3Files, uri: str = "s3://data/name") -> str:
    """Which server answers."""
    filesystem, path = files.open(uri)
    with filesystem.open_input_file(path) as opened:
        return bytes(opened.read()).decode()


def test_the_endpoint_of_the_settings_is_asked(
    servers: dict[str, str], profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    settings = StoreSettings(endpoint_url=servers["first"])
    assert asked(S3Files(settings)) == "first"
    assert S3Files(settings).endpoint("s3://data/name") == servers["first"]


def test_an_endpoint_of_an_aws_profile_is_asked_with_its_credentials(servers: dict[str, str], profile: Path) -> None:
    write_profile(profile, "default", servers["second"])
    write_profile(profile, "private", servers["first"])
    assert asked(S3Files(StoreSettings())) == "second"
    assert asked(S3Files(StoreSettings(profile="private"))) == "first"
    assert asked(S3Files(StoreSettings(profile="private", endpoint_url=servers["second"]))) == "second"


def test_what_the_uri_itself_names_goes_first_and_its_other_parameters_keep_the_named_service(
    servers: dict[str, str], profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    files = S3Files(StoreSettings(endpoint_url=servers["first"]))
    own = f"s3://data/name?endpoint_override={servers['second'].removeprefix('http://')}&scheme=http"
    assert asked(files, own) == "second"
    assert files.endpoint(own) == servers["second"].removeprefix("http://")
    assert asked(files, "s3://data/name?region=us-east-1") == "first"


def test_nothing_named_is_amazon_and_says_so(profile: Path) -> None:
    files = S3Files(StoreSettings())
    assert files.endpoint("s3://data/name") == AMAZON
    filesystem, path = files.open("s3://data/na%20me?region=us-east-1")
    assert (type(filesystem), path) == (pafs.S3FileSystem, "data/na me")
    filesystem, path = files.open("s3://data/na%20me")
    assert (type(filesystem), path) == (pafs.PyFileSystem, "data/na me")


def test_a_path_in_a_bucket_is_read_as_arrow_reads_it(profile: Path) -> None:
    files = S3Files(StoreSettings(endpoint_url=f"http://127.0.0.1:{free_port()}"))
    assert files.open("s3://data/na%20me/")[1] == "data/na me"
    assert files.open("s3://data")[1] == "data"


def test_an_endpoint_that_may_not_get_credentials_is_refused(profile: Path) -> None:
    with pytest.raises(ConfigError, match="plain http beyond loopback"):
        S3Files(StoreSettings(endpoint_url="http://storage.example.org")).open("s3://data/name")
