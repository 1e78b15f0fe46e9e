"""Entry points: load the data of a config, and make the streams of one seed from loaded data.

Loading takes seconds to minutes and the memory, making streams costs nothing; several seeds can share one loaded set.
"""

from __future__ import annotations

from typing import overload

from ray_darts.config import RunConfig, SearchConfig
from ray_darts.data.locations import S3Service, asking
from ray_darts.data.memory import available_memory_bytes
from ray_darts.protocols.dataset import Advance, DataReport, LoadedData, SearchData, TaskData


def load_data(config: RunConfig, memory_limit_bytes: int | None = None, s3: S3Service | None = None) -> LoadedData:
    """Read and check the whole data set of `config`.

    `memory_limit_bytes`: by default the machine's free memory. `s3` opens s3:// paths; None: Arrow does, by AWS's
    standard settings. Raises: DataError, before anything large is decoded, naming the file, row or setting at fault.
    """
    limit = available_memory_bytes() if memory_limit_bytes is None else memory_limit_bytes
    with asking(s3):
        return config.data.load(limit)


def check_data(config: RunConfig, advance: Advance, s3: S3Service | None = None) -> DataReport:
    """Read the whole data set of `config` once, but for a test set, and say what is in it. Raises: DataError."""
    with asking(s3):
        return config.data.check(advance)


@overload
def open_data(config: SearchConfig, seed: int, s3: S3Service | None = None) -> SearchData: ...
@overload
def open_data(config: RunConfig, seed: int, s3: S3Service | None = None) -> TaskData: ...
def open_data(config: RunConfig, seed: int, s3: S3Service | None = None) -> TaskData:
    """Load the data of `config` and return the streams of one seed. Raises: DataError."""
    return config.streams(load_data(config, s3=s3), seed)
