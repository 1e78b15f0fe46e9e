"""A store in an S3 bucket: conditional puts, SHA-256 on every object. `s3_requests` sends requests again.

Credentials come from each node's own chain, which refreshes them; none is ever held, logged or sent. Knows no layout.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ray_darts.artifacts.endpoints import check_endpoint
from ray_darts.artifacts.objects import Conflict, Listed, ObjectStore, Stored
from ray_darts.artifacts.s3_errors import is_bad_request
from ray_darts.artifacts.s3_requests import Requests
from ray_darts.config.operation import StoreSettings
from ray_darts.errors import ConfigError, MissingObject, StoreDenied, StoreError

_MAX_POOL_CONNECTIONS = 16


class Access(NamedTuple):
    """An endpoint and the credentials for it; never logged, stored or sent, and not shown by `repr`."""

    endpoint_url: str
    region: str
    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return f"Access({self.endpoint_url!r}, {self.region!r})"


class S3Store(ObjectStore):
    """The ObjectStore contract on `s3://bucket/prefix`. One client, safe in threads."""

    def __init__(self, uri: str, settings: StoreSettings) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise ConfigError(f"store {uri!r}: wanted s3://bucket/prefix")
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._settings = settings
        self._uri = f"s3://{bucket}/{self._prefix}".rstrip("/")
        self._client = make_client(settings, self._uri)
        self._requests = Requests(settings, self._uri)
        self._requotes: bool | None = None  # whether If-Match needs the other quoting; None: no swap was accepted yet

    @property
    def uri(self) -> str:
        return self._uri

    @property
    def server(self) -> str:
        return f"{self._uri} at {self._client.meta.endpoint_url}"

    def get(self, key: str) -> Stored:
        def read() -> Stored:
            answer = self._client.get_object(**self._address(key), **self._owner())
            data = answer["Body"].read()
            return Stored(data, answer["ETag"], _age_s(answer["LastModified"], answer))

        return self._requests.ask("get", key, read)

    def exists(self, key: str) -> bool:
        try:
            self._requests.ask("get", key, lambda: self._client.head_object(**self._address(key), **self._owner()))
        except MissingObject:
            return False
        return True

    def put(self, key: str, data: bytes) -> None:
        self._put(key, data, {})

    def put_if_absent(self, key: str, data: bytes) -> None:
        self._put(key, data, {"IfNoneMatch": "*"})

    def compare_and_swap(self, key: str, data: bytes, etag: str) -> None:
        """As the contract says, also where If-Match must be sent without the ETag's quotes.

        Ceph RGW and DigitalOcean Spaces refuse the quoted tag that they sent themselves, and answer 412 for an absent
        key. So after a 412 the object is read, and if it still has the expected ETag the swap is sent once more with
        the other quoting. The condition is part of both requests. A server that has accepted a tag as it was sent
        costs one request per swap, whether it holds or not.
        """
        tag, other = (requoted(etag), etag) if self._requotes else (etag, requoted(etag))
        try:
            self._put(key, data, {"IfMatch": tag})
        except Conflict:
            if self._requotes is False or tag == other or self.get(key).etag != etag:
                raise
            self._put(key, data, {"IfMatch": other})
            tag = other
        self._requotes = tag != etag

    def delete(self, key: str) -> None:
        self._requests.ask("delete", key, lambda: self._client.delete_object(**self._address(key), **self._owner()))

    def list_objects(self, prefix: str) -> Iterator[Listed]:
        for page in self._pages(prefix, {}):
            for entry in page.get("Contents", []):
                key = entry["Key"].removeprefix(self._prefix)
                yield Listed(key, entry["Size"], _age_s(entry["LastModified"], page))

    def list_folders(self, prefix: str) -> list[str]:
        folders = [
            entry["Prefix"].removeprefix(self._prefix + prefix).rstrip("/")
            for page in self._pages(prefix, {"Delimiter": "/"})
            for entry in page.get("CommonPrefixes", [])
        ]
        return sorted(folders)

    def server_time(self) -> datetime:
        return _server_time(self._page("", {"MaxKeys": 1}))

    def refuses_damage(self, key: str) -> bool | None:
        request = {**self._address(key), **self._owner(), **self._encryption()}

        def put() -> bool:
            try:
                self._client.put_object(**request, Body=b"damaged", ChecksumSHA256=_checksum(b"whole"))
            except ClientError as error:
                if is_bad_request(error):
                    return True
                raise
            return False

        return self._requests.ask("put", key, put)

    def access(self) -> Access:
        """What another S3 client of this process needs. Raises: StoreDenied without credentials."""
        access = access_of(self._client)
        if access is None:
            raise StoreDenied(f"{self._uri}: no usable credentials on this node")
        return access

    def _put(self, key: str, data: bytes, condition: Mapping[str, str]) -> None:
        checksum = _checksum(data)
        request = {**self._address(key), **self._owner(), **self._encryption(), **condition}
        if key.endswith(".html"):
            request["ContentType"] = "text/html; charset=utf-8"  # so that a browser shows it
        try:
            self._requests.ask(
                "put", key, lambda: self._client.put_object(**request, Body=data, ChecksumSHA256=checksum)
            )
        except StoreError as error:
            if type(error) is not StoreError or self._settings.encryption == "none":
                raise
            raise StoreError(
                f"{error}. The request asks for store.encryption={self._settings.encryption}; a server that does not "
                "know it, or lacks the key, wants store.encryption=none",
                key=key,
            ) from error

    def _pages(self, prefix: str, more: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        return all_pages(
            lambda token: self._page(prefix, {**more, **token}), f"{self.server} lists {self._prefix}{prefix}"
        )

    def _page(self, prefix: str, more: Mapping[str, str | int]) -> dict[str, Any]:
        address = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, **self._owner(), **more}
        return self._requests.ask("list", "", lambda: self._client.list_objects_v2(**address))

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _owner(self) -> dict[str, str]:
        owner = self._settings.expected_bucket_owner
        return {} if owner is None else {"ExpectedBucketOwner": owner}

    def _encryption(self) -> dict[str, str]:
        settings = self._settings
        if settings.encryption == "none":
            return {}
        key = {} if settings.kms_key_id is None else {"SSEKMSKeyId": settings.kms_key_id}
        return {"ServerSideEncryption": settings.encryption, **key}


def make_client(settings: StoreSettings, uri: str, more: Config | None = None) -> Any:
    """An S3 client of this node, its endpoint checked; `more` goes before its own config. boto3 is untyped, so is it.

    Raises: ConfigError on an endpoint that is not allowed, a missing region or profile.
    """
    _quiet_botocore()
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},  # `Requests` sends a request again, nothing else does
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        max_pool_connections=_MAX_POOL_CONNECTIONS,
        tcp_keepalive=True,
        signature_version="s3v4",
        request_checksum_calculation=settings.checksums,
        response_checksum_validation=settings.checksums,
    )
    try:
        session = boto3.Session(profile_name=settings.profile, region_name=settings.region)
        config = config if more is None else config.merge(more)
        client = session.client("s3", endpoint_url=settings.endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"{uri} cannot be asked: {error}") from error
    check_endpoint(client.meta.endpoint_url, settings.allow_http)
    return client


def all_pages(page_of: Callable[[Mapping[str, str]], dict[str, Any]], what: str) -> Iterator[dict[str, Any]]:
    """All pages of a listing; `page_of` takes what continues it. Raises: StoreError where `what` has no end."""
    seen: set[str] = set()
    page = page_of({})
    yield page
    while page.get("IsTruncated"):
        token = page.get("NextContinuationToken", "")
        if not token or token in seen:
            raise StoreError(
                f"{what} without an end: its page is not the last one, and names {token!r} as the next, which is no "
                "new one"
            )
        seen.add(token)
        page = page_of({"ContinuationToken": token})
        yield page


def requoted(etag: str) -> str:
    """The ETag without its quotes, or with them where it has none; a weak one (`W/"…"`) stays as it is."""
    if etag.startswith("W/"):
        return etag
    return etag[1:-1] if len(etag) > 1 and etag[0] == etag[-1] == '"' else f'"{etag}"'


def access_of(client: Any) -> Access | None:
    """What a client of `make_client` asks with at this moment; None without credentials."""
    # botocore has no public way from a client to its resolved credentials
    credentials = client._request_signer._credentials
    if credentials is None:
        return None
    frozen = credentials.get_frozen_credentials()
    return Access(client.meta.endpoint_url, client.meta.region_name, frozen.access_key, frozen.secret_key, frozen.token)


def has_named_endpoint(settings: StoreSettings, client: Any) -> bool:
    """Whether the settings, the environment or an AWS profile name the endpoint of a client of `make_client`."""
    if settings.endpoint_url is not None:
        return True
    session = boto3.Session(profile_name=settings.profile, region_name=settings.region)
    unnamed = session.client("s3", config=Config(ignore_configured_endpoint_urls=True))
    return bool(client.meta.endpoint_url != unnamed.meta.endpoint_url)


def _quiet_botocore() -> None:
    """At DEBUG botocore logs signatures and headers: never below INFO, whatever the root logger says."""
    for name in ("boto3", "botocore", "urllib3"):
        library = logging.getLogger(name)
        if library.getEffectiveLevel() < logging.INFO:
            library.setLevel(logging.INFO)


def _checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _server_time(answer: Mapping[str, Any]) -> datetime:
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


def _age_s(modified: datetime, answer: Mapping[str, Any]) -> float:
    """By the server's clock alone; Last-Modified has whole seconds."""
    return max(0.0, (_server_time(answer) - modified).total_seconds())
