"""Where s3:// data are read from: as the store, by AWS's settings alone, or by a table of the data's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_darts.config import load_config
from ray_darts.errors import ConfigError
from ray_darts.orchestration.data_access import s3_of

STORE = ["store.endpoint_url=https://store.example.org", "store.profile=writer", "store.region=eu-west-1"]
URI = "s3://data/x"


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's config file with two profiles, and no other AWS setting."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    keys = "region = us-east-1\naws_access_key_id = a\naws_secret_access_key = b\n"
    sections = {"default": "standard", "profile writer": "written", "profile reader": "read"}
    (tmp_path / "config").write_text(
        "".join(f"[{name}]\nendpoint_url = https://{host}.example.org\n{keys}" for name, host in sections.items())
    )


@pytest.mark.parametrize(
    ("settings", "endpoint"),
    [
        ([], "https://store.example.org"),
        (["data.storage=store"], "https://store.example.org"),
        (["data.storage=aws"], "https://standard.example.org"),
        (["data.endpoint_url=https://own.example.org"], "https://own.example.org"),
        (["data.storage=aws", "data.endpoint_url=https://own.example.org"], "https://own.example.org"),
        (["data.storage.profile=reader"], "https://read.example.org"),
        (["data.storage.endpoint_url=https://own.example.org", "data.storage.region=x"], "https://own.example.org"),
    ],
)
def test_data_are_read_from_where_the_settings_say(settings: list[str], endpoint: str) -> None:
    config = load_config("cifar10", overrides=["data.source=parquet", f"data.path={URI}", *STORE, *settings])
    assert s3_of(config).endpoint(URI) == endpoint


def test_two_places_that_name_an_endpoint_are_refused() -> None:
    overrides = ["data.storage.region=x", "data.endpoint_url=https://own.example.org"]
    with pytest.raises(ConfigError, match="endpoint_url has no effect beside a table storage: name it there"):
        load_config("cifar10", overrides=["data.source=parquet", f"data.path={URI}", *overrides])


def test_plain_http_is_refused_unless_the_datas_own_table_allows_it() -> None:
    place = ["data.source=parquet", f"data.path={URI}", "data.storage.endpoint_url=http://own.example.org"]
    with pytest.raises(ConfigError, match="plain http beyond loopback"):
        s3_of(load_config("cifar10", overrides=[*place, "store.allow_http=true"])).open(URI)
    s3_of(load_config("cifar10", overrides=[*place, "data.storage.allow_http=true"])).open(URI)
