"""Where the tests' bucket is and how it is reached."""

from __future__ import annotations

import os
from uuid import uuid4

from ray_darts.config import StoreSettings

BUCKET = "darts"
SERVER = os.environ.get("RAY_DARTS_TEST_SERVER", "ministack")


def settings(url: str, **more: object) -> StoreSettings:
    """Settings of a bucket at `url`."""
    return StoreSettings.model_validate({"endpoint_url": url, "region": "us-east-1", **more})


def fresh_uri() -> str:
    """A place in the bucket that no other test uses."""
    return f"s3://{BUCKET}/{uuid4().hex}"
