"""Where a command's data lie, how its processes open them, and what is logged of them.

They are opened with this node's access to S3; the data layer itself knows no store settings.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypeVar

from ray_darts.artifacts.s3_files import S3Files
from ray_darts.config import RunConfig
from ray_darts.data import open as opening
from ray_darts.errors import ConfigError
from ray_darts.protocols.dataset import Advance, DataDescription, DataReport, DataStorage, LoadedData, TaskData

_Config = TypeVar("_Config", bound=RunConfig)

logger = logging.getLogger("ray_darts.orchestration")


def with_absolute_path(config: _Config) -> _Config:
    """The config with absolute paths of its data, which hold in any working directory; `~` is the caller's home.

    Raises: ConfigError on the home of nobody.
    """
    places = {name: getattr(config.data, name) for name in config.data.PLACES}
    try:
        changed = {
            name: str(Path(place).expanduser().absolute())
            for name, place in places.items()
            if place is not None and "://" not in place
        }
    except RuntimeError as error:
        raise ConfigError(f"data.path {places['path']}: {error}") from error
    return config.model_copy(update={"data": config.data.model_copy(update=changed)}) if changed else config


def open_data(config: RunConfig, seed: int) -> TaskData:
    """Load the data of `config` and return the streams of one seed.

    An s3:// path is read from where `data.storage` or `data.endpoint_url` say, else as `store` and AWS's settings do.

    Raises: DataError; ConfigError on an endpoint that is not allowed.
    """
    return config.streams(load_data(config), seed)


class DataCache:
    """Keeps the data that were opened last: runs that one process does in turn share them."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._loaded: LoadedData | None = None

    def open(self, config: RunConfig, seed: int) -> TaskData:
        """As `open_data`, reading only what is another than the last time."""
        key = config.data.model_dump_json() + config.store.model_dump_json()
        if self._loaded is None or key != self._key:
            self._loaded = None  # two data sets need not fit the memory
            self._loaded, self._key = load_data(config), key
        return config.streams(self._loaded, seed)


def check_data(config: RunConfig, advance: Advance) -> DataReport:
    """Read all data of `config` once with this node's access to S3. Raises: as `open_data`."""
    return opening.check_data(config, advance, s3_of(config))


def load_data(config: RunConfig) -> LoadedData:
    """Load the data of `config` with this node's access to S3. Raises: as `open_data`."""
    return opening.load_data(config, s3=s3_of(config))


def s3_of(config: RunConfig) -> S3Files:
    """The service of the data: that of the store, or the one that `data.storage` and `data.endpoint_url` name.

    Limits of requests are those of the store settings.
    """
    data = config.data
    if isinstance(data.storage, DataStorage):
        own = data.storage.model_dump()
    elif data.storage == "store" and data.endpoint_url is None:
        return S3Files(config.store)
    else:
        own = DataStorage(endpoint_url=data.endpoint_url, allow_http=config.store.allow_http).model_dump()
    return S3Files(config.store.model_copy(update=own))


def log_data(description: DataDescription) -> None:
    """Log what was taken of the data and what was left out, and warnings."""
    for line in description.notes:
        logger.info("data: %s", line)
    for line in description.warnings:
        logger.warning("warning: %s", line)
