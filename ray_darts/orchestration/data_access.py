"""Opens the data of a config with this node's access to S3; the data layer itself knows no store settings."""

from __future__ import annotations

from ray_darts.artifacts.s3_files import S3Files
from ray_darts.config import SearchConfig
from ray_darts.data import open as opening
from ray_darts.protocols.dataset import SearchData


def open_data(config: SearchConfig, seed: int) -> SearchData:
    """Load the data of `config` and return the streams of one seed.

    An s3:// path is read from `data.endpoint_url`, or else from where `store` and AWS's settings say.

    Raises: DataError; ConfigError on an endpoint that is not allowed.
    """
    return opening.open_data(config, seed, S3Files(config.store, config.data.endpoint_url))
