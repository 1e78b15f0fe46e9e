"""S3 as a file system of pyarrow: endpoint, region and credentials as boto3 finds them for the store settings.

Arrow by itself does not read an endpoint from an AWS profile, knows no store settings, and renews no credentials that
it was given.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import pyarrow.fs as pafs

from ray_darts.artifacts.s3 import Access, has_named_endpoint
from ray_darts.artifacts.s3_handler import S3Handler, reading_client
from ray_darts.config.operation import StoreSettings

AMAZON = "Amazon S3 (no endpoint is named in data.endpoint_url, store.endpoint_url or the AWS settings)"


def arrow_filesystem(access: Access | None, endpoint_url: str, region: str) -> pafs.S3FileSystem:
    """The file system of all buckets at an endpoint; without credentials it asks as nobody, for public buckets."""
    endpoint = urlsplit(endpoint_url)
    credentials = (
        {"anonymous": True}
        if access is None
        else {"access_key": access.access_key, "secret_key": access.secret_key, "session_token": access.token}
    )
    return pafs.S3FileSystem(
        region=region, scheme=endpoint.scheme, endpoint_override=endpoint.netloc + endpoint.path, **credentials
    )


class S3Files:
    """Opens s3:// URIs at the endpoint that `settings` name, else AWS's own settings, else at Amazon.

    What a URI itself says (`?endpoint_override=…&region=…`, `user:password@`) is read by Arrow.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings

    def open(self, uri: str) -> tuple[pafs.FileSystem, str]:
        """The file system of a URI and the path in it. Raises: ConfigError, pyarrow's errors."""
        parts = urlsplit(uri)
        if not parts.query and "@" not in parts.netloc:
            handler = S3Handler(self._settings, self._client)
            return pafs.PyFileSystem(handler), unquote(uri.removeprefix("s3://")).rstrip("/")
        if _own_endpoint(uri) is None and self._named is not None:
            named = urlsplit(self._named)
            more = urlencode({"endpoint_override": named.netloc + named.path, "scheme": named.scheme})
            uri = f"{uri}{'&' if parts.query else '?'}{more}"
        filesystem, root = pafs.FileSystem.from_uri(uri)
        return filesystem, str(root)

    def endpoint(self, uri: str) -> str:
        """The service that is asked for a URI, for messages."""
        return _own_endpoint(uri) or self._named or AMAZON

    @cached_property
    def _client(self) -> Any:
        return reading_client(self._settings)

    @cached_property
    def _named(self) -> str | None:
        """The endpoint that the settings or AWS's own settings name."""
        return str(self._client.meta.endpoint_url) if has_named_endpoint(self._settings, self._client) else None


def _own_endpoint(uri: str) -> str | None:
    found = parse_qs(urlsplit(uri).query).get("endpoint_override")
    return found[0] if found else None
