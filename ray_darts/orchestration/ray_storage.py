"""Where Ray keeps its own marker files: `<store>/<experiment>/_ray`, through pyarrow. Nothing of ours is in there.

pyarrow's S3 client knows no KMS key and no bucket owner: Ray's files are encrypted as the bucket does by default.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pyarrow.fs

from ray_darts.artifacts.layout import RAY_FOLDER
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.open import open_store
from ray_darts.config import StoreSettings

# pyarrow has one exception for all answers of S3; their names, as it writes them, tell them apart
_OUTAGES = (
    "NETWORK_CONNECTION",
    "SERVICE_UNAVAILABLE",
    "SLOW_DOWN",
    "THROTTLING",
    "INTERNAL_FAILURE",
    "REQUEST_TIMEOUT",
)


@dataclass(frozen=True)
class RayStorage:
    """Arguments of Ray's RunConfig; `environment` is set here and must be wherever else Ray writes."""

    path: str
    filesystem: pyarrow.fs.FileSystem | None = None
    environment: dict[str, str] = field(default_factory=dict)


def ray_storage(store_uri: str, experiment: str, settings: StoreSettings) -> RayStorage:
    """Ray's folder beside an experiment; S3 is asked as our own client asks it."""
    store = open_store(store_uri, settings)
    if isinstance(store, LocalStore):
        return RayStorage(f"{store.uri}/{experiment}/{RAY_FOLDER}")
    path = f"{store.uri.removeprefix('s3://').rstrip('/')}/{experiment}/{RAY_FOLDER}"
    environment: dict[str, str] = {"AWS_REQUEST_CHECKSUM_CALCULATION": settings.checksums}
    if settings.profile is not None:
        environment["AWS_PROFILE"] = settings.profile
    os.environ.update(environment)
    scheme, _, host = (settings.endpoint_url or "").partition("://")
    filesystem = pyarrow.fs.S3FileSystem(
        endpoint_override=host or None,
        scheme=scheme or "https",
        region=settings.region,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=settings.attempts),
    )
    return RayStorage(path, filesystem, environment)


def is_outage(error: OSError) -> bool:
    """Whether pyarrow says that S3 did not answer or asked to be asked later; a refusal or a full disk is neither."""
    return any(name in str(error) for name in _OUTAGES)
