"""Single requests to an S3 server, to measure what it does: nothing is sent twice, nothing is translated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.artifacts.buckets import BUCKET


class Requests:
    """Single requests to one key, none of them sent twice; each answer is a status."""

    def __init__(self, url: str, key: str) -> None:
        retries = {"total_max_attempts": 1}
        self._client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=Config(retries=retries))
        self._address = {"Bucket": BUCKET, "Key": key}
        self.etag = ""

    def put(self, data: bytes, **conditions: str) -> int:
        """Send a PUT; `etag` is then what the server answered, where it stored something."""
        return self._status(lambda: self._client.put_object(**self._address, Body=data, **conditions))

    def get(self) -> int:
        return self._status(lambda: self._client.get_object(**self._address))

    def data(self) -> bytes:
        """The object as it is now."""
        data: bytes = self._client.get_object(**self._address)["Body"].read()
        return data

    def delete(self) -> int:
        return self._status(lambda: self._client.delete_object(**self._address))

    def is_listed(self) -> bool:
        listing = self._client.list_objects_v2(Bucket=BUCKET, Prefix=self._address["Key"])
        return [entry["Key"] for entry in listing.get("Contents", [])] == [self._address["Key"]]

    def close(self) -> None:
        self._client.close()

    def _status(self, request: Callable[[], dict[str, Any]]) -> int:
        try:
            answer = request()
        except ClientError as error:
            status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return status
        self.etag = answer.get("ETag", self.etag)
        done: int = answer["ResponseMetadata"]["HTTPStatusCode"]
        return done
