"""Which addresses credentials may be sent to."""

from __future__ import annotations

import pytest

from ray_darts.artifacts.endpoints import check_endpoint
from ray_darts.artifacts.open import open_store
from ray_darts.config import StoreSettings
from ray_darts.errors import ConfigError


@pytest.mark.parametrize(
    "url",
    [
        "https://s3.eu-central-1.amazonaws.com",
        "https://minio.example:9000",
        "https://10.0.0.7",
        "http://127.0.0.1:9000",
        "http://127.9.9.9",
        "http://localhost:9000",
        "http://[::1]:9000",
    ],
)
def test_https_anywhere_and_http_on_loopback_are_allowed(url: str) -> None:
    check_endpoint(url, allow_http=False)


@pytest.mark.parametrize(
    "url", ["http://10.0.0.7", "http://minio.example:9000", "http://[2001:db8::1]", "http://127.0.0.1.example"]
)
def test_http_beyond_loopback_needs_the_flag(url: str) -> None:
    with pytest.raises(ConfigError, match="allow_http"):
        check_endpoint(url, allow_http=False)
    check_endpoint(url, allow_http=True)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.170.2",
        "[fd00:ec2::254]",
        "[fe80::a9fe:a9fe]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "metadata",
        "100.100.100.200",
        "0.0.0.0",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_metadata_service_is_refused_in_any_notation(host: str, scheme: str) -> None:
    with pytest.raises(ConfigError, match="metadata service"):
        check_endpoint(f"{scheme}://{host}", allow_http=True)


@pytest.mark.parametrize("url", ["ftp://host", "host:9000", "https://", "file:///etc/passwd"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="https://host"):
        check_endpoint(url, allow_http=True)


def test_a_credential_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="own chain") as raised:
        check_endpoint("https://key:canary-secret@host", allow_http=False)
    assert "canary" not in str(raised.value)


def test_an_endpoint_of_the_environment_is_checked_like_one_of_the_config(
    aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://169.254.169.254")
    with pytest.raises(ConfigError, match="metadata service"):
        open_store("s3://bucket/prefix", StoreSettings(region="us-east-1"))


@pytest.mark.parametrize("uri", ["s3://", "s3:///prefix", "gs://bucket", "http://host/bucket"])
def test_a_store_of_another_kind_is_refused(aws: None, uri: str) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        open_store(uri)
