"""Chooses where a search takes pixels from: memory, a file that the workers of a node share, or pictures decoded ahead.

All three give the same batches.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ray_darts.data.cache import NoCacheRoom, open_cache
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.decoding_process import PictureDecoder
from ray_darts.data.images.decoding_room import DecodingRoom
from ray_darts.data.images.pixels import ArrayPixels, MappedPixels, Pixels
from ray_darts.data.images.reading import HASHES, PIXELS, Findings, PictureReading
from ray_darts.data.images.streamed import StreamedPixels
from ray_darts.data.memory import HELD_SHARE, check_memory, gigabytes

logger = logging.getLogger("ray_darts.data")

_PREFETCHED_REQUESTS = 8
_PROCESS_BYTES = 100 << 20
_MUCH_TO_READ_BYTES = 4 << 20


@dataclass(frozen=True)
class LoadedPixels:
    """Pixels by position in the reading, and what was found. `memory_bytes`: held by a worker; `loading_bytes`: its
    peak while it reads. `notes` and `warnings`: for people."""

    pixels: Pixels
    findings: Findings
    memory_bytes: int
    loading_bytes: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def load_pixels(
    settings: Images, reading: PictureReading, memory_limit_bytes: int, what: str = "the data set"
) -> LoadedPixels:
    """Load as `data.loading` says; "auto": in memory up to a quarter of it, mapped, streamed or in
    memory, the first that there is room for.

    `what` is loaded, for messages. Raises: DataError naming pictures that cannot be used, or the room that is missing.
    """
    in_memory = partial(_in_memory, reading, memory_limit_bytes, what)
    mapped = partial(_mapped, reading, memory_limit_bytes, settings)
    streamed = partial(_streamed, reading, memory_limit_bytes, settings)
    chosen: dict[str, Callable[[], LoadedPixels]] = {"memory": in_memory, "mapped": mapped, "streamed": streamed}
    if settings.loading != "auto":
        return chosen[settings.loading]()
    if reading.num_bytes <= HELD_SHARE * memory_limit_bytes:
        return in_memory()
    for way in (mapped, streamed):
        try:
            return way()
        except NoCacheRoom as error:
            logger.warning("warning: %s", error)
    return in_memory()


def _in_memory(reading: PictureReading, limit_bytes: int, what: str) -> LoadedPixels:
    count, size, _, channels = reading.array_shape
    check_memory(
        reading.num_bytes,
        limit_bytes,
        f"{what} ({count} images of {size}x{size}x{channels} bytes)",
        'see data.fraction, or set data.loading = "mapped"',
    )
    beside = f" beside the data set's {gigabytes(reading.num_bytes)} GB"
    room = DecodingRoom(limit_bytes - reading.num_bytes, beside)
    images_NHWC, findings = reading.into_memory(room)
    peak_bytes = reading.num_bytes + _peak_bytes(reading, room)
    return LoadedPixels(ArrayPixels(images_NHWC), findings, reading.num_bytes, peak_bytes)


def _mapped(reading: PictureReading, limit_bytes: int, settings: Images) -> LoadedPixels:
    cache = open_cache(settings.cache_path, settings.cache_bytes)
    room = DecodingRoom(limit_bytes)
    entry = cache.open(reading.key("mapped"), reading.num_bytes, lambda folder: reading.into_file(folder, room))
    file = entry.folder / PIXELS
    note = f"pixels are in {file} ({gigabytes(reading.num_bytes)} GB), which the workers of a node share (data.loading)"
    pixels = MappedPixels(file, reading.array_shape, entry)
    return LoadedPixels(pixels, reading.findings(entry.facts), 0, _peak_bytes(reading, room), (note,))


def _streamed(reading: PictureReading, limit_bytes: int, settings: Images) -> LoadedPixels:
    cache, processes = open_cache(settings.cache_path, settings.cache_bytes), settings.loader_processes
    room = DecodingRoom(limit_bytes)
    size = 2 * np.dtype(np.uint64).itemsize * len(reading.rows)
    entry = cache.open(reading.key("streamed"), size, lambda folder: reading.through(folder, room))
    hashes = np.fromfile(entry.folder / HASHES, "<u8")
    decoder = PictureDecoder(reading.source, reading.rows, reading.shape, hashes)
    a_picture = reading.source.read_bytes_per_picture()
    warnings: tuple[str, ...] = ()
    if a_picture > _MUCH_TO_READ_BYTES:
        warnings = (
            f"a picture at a random place costs reading {a_picture / 1e6:.3g} MB, the row group that it lies in: write "
            'the Parquet files with fewer rows a group (100, say), or set data.loading = "mapped"',
        )
    return LoadedPixels(
        StreamedPixels(decoder, processes, _PREFETCHED_REQUESTS),
        reading.findings(entry.facts),
        processes * _PROCESS_BYTES + reading.rows.nbytes + hashes.nbytes,
        _peak_bytes(reading, room),
        (f"pictures are decoded when they are used, by {processes} processes a worker (data.loading)",),
        warnings,
    )


def _peak_bytes(reading: PictureReading, room: DecodingRoom) -> int:
    return room.peak_bytes(min(os.cpu_count() or 1, len(reading.rows)))
