"""The way in: from a config to loaded data, and from loaded data to the streams of one seed.

Loading (seconds to minutes, the memory) is apart from the streams (nothing), so that one set can serve several seeds.
"""

from __future__ import annotations

from ray_darts.config import SearchConfig
from ray_darts.data.memory import available_memory_bytes
from ray_darts.protocols.dataset import LoadedData, SearchData


def load_data(config: SearchConfig, memory_limit_bytes: int | None = None) -> LoadedData:
    """Read and check the whole data set of `config`; `memory_limit_bytes` is by default what this machine has free.

    Raises: DataError, before anything large is decoded, naming the file, row or setting at fault.
    """
    return config.data.load(available_memory_bytes() if memory_limit_bytes is None else memory_limit_bytes)


def open_data(config: SearchConfig, seed: int, memory_limit_bytes: int | None = None) -> SearchData:
    """Load the data of `config` and return the streams of one seed. Raises: DataError."""
    return load_data(config, memory_limit_bytes).streams(config.search, seed)
