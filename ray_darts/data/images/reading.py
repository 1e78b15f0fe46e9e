"""Reads all pictures of a data set once: into memory, into a file that a later process goes on with, or only through.

Whichever it is, the same is found: digest, mean and deviation, pictures that cannot be used.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from ray_darts.data.ahead import read_ahead
from ray_darts.data.cache import write_whole
from ray_darts.data.images.decoding import AfterChunk, Decoder, Into
from ray_darts.data.images.decoding_room import DecodingRoom
from ray_darts.data.images.pictures import PictureShape
from ray_darts.data.images.sources import ImageSource
from ray_darts.data.images.tally import Tally

_VERSION = 1
_READS_AT_ONCE, _PICTURES_WAITING = 4, 64
_SAVED_EVERY_BYTES = 256 << 20
_REREAD_AT_ONCE = 512
PIXELS, HASHES = "pixels", "hashes"
_PROGRESS = "progress.json"


@dataclass(frozen=True)
class Findings:
    """What reading all pictures found. `digest`: of shape, pixels and labels."""

    tally: Tally
    digest: str

    def as_json(self) -> dict[str, Any]:
        """For `PictureReading.findings`."""
        return {**self.tally.as_json(), "digest": self.digest}


@dataclass(frozen=True)
class PictureReading:
    """The pictures `rows` of `source`, to be decoded to `shape`.

    `is_weight`: of each, whether it is in the weight half; `most_skipped`: pictures that may be left out.
    """

    source: ImageSource
    rows: NDArray[np.int64]
    shape: PictureShape
    is_weight: NDArray[np.bool_]
    most_skipped: int = 0

    @property
    def array_shape(self) -> tuple[int, int, int, int]:
        """(pictures, height, width, channels)."""
        return len(self.rows), self.shape.size, self.shape.size, self.shape.channels

    @property
    def num_bytes(self) -> int:
        """Of all pictures, decoded."""
        return len(self.rows) * self.shape.picture_bytes

    def key(self, kind: str) -> str:
        """Names what reading leaves on a disk: another name where it would leave something else."""
        digest = hashlib.sha256()
        parts = _VERSION, PIL.__version__, self.source.fingerprint, astuple(self.shape), self.most_skipped
        digest.update(repr(parts).encode())
        for values in (self.rows, self._labels, self.is_weight):
            digest.update(np.ascontiguousarray(values).data)
        return f"{kind}-{digest.hexdigest()[:24]}"

    def into_memory(self, room: DecodingRoom) -> tuple[NDArray[np.uint8], Findings]:
        """All pixels, uint8 [N, H, W, C]; those of skipped pictures are undefined."""
        images_NHWC = np.empty(self.array_shape, np.uint8)
        tally = self._tally()
        self._decode(room, tally, lambda start, stop: images_NHWC[start:stop], lambda start, pixels: None)
        return images_NHWC, self._findings(tally)

    def into_file(self, folder: Path, room: DecodingRoom) -> Mapping[str, Any]:
        """Write all pixels to the file PIXELS in `folder`, from where another process was stopped. Raises: OSError."""
        target = os.open(folder / PIXELS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.posix_fallocate(target, 0, self.num_bytes)
            tally = self._tally()
            self._go_on(tally, folder, target)
            unsaved_bytes = 0

            def keep(start: int, pixels_NHWC: NDArray[np.uint8]) -> None:
                nonlocal unsaved_bytes
                _write_at(target, pixels_NHWC, start * self.shape.picture_bytes)
                unsaved_bytes += pixels_NHWC.nbytes
                if unsaved_bytes >= _SAVED_EVERY_BYTES:
                    unsaved_bytes = 0
                    os.fdatasync(target)
                    write_whole(folder / _PROGRESS, json.dumps(tally.as_json()))

            self._decode(room, tally, self._scratch, keep)
            os.fsync(target)
        finally:
            os.close(target)
        return self._findings(tally).as_json()

    def through(self, folder: Path, room: DecodingRoom) -> Mapping[str, Any]:
        """Keep a hash of each picture, in the file HASHES in `folder`, and no pixels. Raises: OSError."""
        tally = self._tally()
        tally.hashes = np.zeros(len(self.rows), np.uint64)
        self._decode(room, tally, self._scratch, lambda start, pixels: None)
        tally.hashes.astype("<u8").tofile(folder / HASHES)
        return self._findings(tally).as_json()

    def findings(self, saved: Mapping[str, Any]) -> Findings:
        """What an earlier reading found."""
        tally = self._tally()
        tally.restore(saved)
        return Findings(tally, saved["digest"])

    @property
    def _labels(self) -> NDArray[np.int64]:
        return self.source.labels[self.rows]

    def _tally(self) -> Tally:
        return Tally(len(self.rows), self.array_shape[1:])

    def _findings(self, tally: Tally) -> Findings:
        return Findings(tally, tally.digest(self._labels[tally.kept()]))

    def _scratch(self, start: int, stop: int) -> NDArray[np.uint8]:
        return np.empty((stop - start, *self.array_shape[1:]), np.uint8)

    def _decode(self, room: DecodingRoom, tally: Tally, into: Into, after_chunk: AfterChunk) -> None:
        decoder = Decoder(self.shape, room, self.is_weight, self.most_skipped)
        reads = self.source.reads(self.rows[tally.done :])
        with closing(read_ahead(reads, _READS_AT_ONCE, _PICTURES_WAITING)) as pictures:
            decoder.decode_all(pictures, into, tally, after_chunk)

    def _go_on(self, tally: Tally, folder: Path, target: int) -> None:
        """Take what an earlier process wrote and saved."""
        try:
            tally.restore(json.loads((folder / _PROGRESS).read_text()))
        except FileNotFoundError:
            return
        for start in range(0, tally.done, _REREAD_AT_ONCE):
            pixels_NHWC = self._scratch(start, min(start + _REREAD_AT_ONCE, tally.done))
            _read_at(target, pixels_NHWC, start * self.shape.picture_bytes)
            tally.digest_again(pixels_NHWC, start)


def _write_at(target: int, pixels: NDArray[np.uint8], offset: int) -> None:
    left = pixels.data.cast("B")
    while left:
        written = os.pwrite(target, left, offset)
        left, offset = left[written:], offset + written


def _read_at(target: int, pixels: NDArray[np.uint8], offset: int) -> None:
    left = pixels.data.cast("B")
    while left:
        read = os.preadv(target, [left], offset)
        if read == 0:
            raise OSError(5, "the file of pixels is shorter than what was written")
        left, offset = left[read:], offset + read
