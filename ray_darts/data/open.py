"""The way in: from a config to loaded data, and from loaded data to the streams of one seed.

Loading (seconds to minutes, the memory) is apart from the streams (nothing), so that one set can serve several seeds.
"""

from __future__ import annotations

from ray_darts.config import SearchConfig
from ray_darts.config.data import ImageData
from ray_darts.data.images import ImageSet, ImageStreams, load_images
from ray_darts.data.memory import available_memory_bytes
from ray_darts.data.protocol import SearchData
from ray_darts.data.text import TextSet, TextStreams, load_text


def load_data(config: SearchConfig, memory_limit_bytes: int | None = None) -> ImageSet | TextSet:
    """Read and check the whole data set of `config`; `memory_limit_bytes` is by default what this machine has free.

    Raises: DataError, before anything large is decoded, naming the file, row or setting at fault.
    """
    limit = available_memory_bytes() if memory_limit_bytes is None else memory_limit_bytes
    if isinstance(config.data, ImageData):
        return load_images(config.data, limit)
    return load_text(config.data, limit)


def stream_data(data: ImageSet | TextSet, config: SearchConfig, seed: int) -> SearchData:
    """Return the streams of one seed over loaded data; costs nothing. Raises: DataError when a half is too small."""
    if isinstance(data, ImageSet):
        return ImageStreams(data, config, seed)
    return TextStreams(data, config, seed)


def open_data(config: SearchConfig, seed: int, memory_limit_bytes: int | None = None) -> SearchData:
    """Load the data of `config` and return the streams of one seed. Raises: DataError."""
    return stream_data(load_data(config, memory_limit_bytes), config, seed)
