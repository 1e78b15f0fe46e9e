"""What a process that decodes pictures for a search does. Imports no torch, so that it starts fast and stays small."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import warnings
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.ahead import read_ahead
from ray_darts.data.images.decoding_room import DecodingRoom
from ray_darts.data.images.pictures import PictureShape
from ray_darts.data.images.sources import ImageSource
from ray_darts.data.images.tally import picture_hash
from ray_darts.errors import DataError

_READS_AT_ONCE = 8
_PICTURES_WAITING = 4
_MOST_BYTES = 4 << 30
"""In which one picture is decoded: more than any that Pillow decodes."""


@dataclass(frozen=True)
class PictureDecoder:
    """Decodes `rows` of a source by their positions, and compares each with its hash in `hashes`."""

    source: ImageSource
    rows: NDArray[np.int64]
    shape: PictureShape
    hashes: NDArray[np.uint64]

    def decode(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [n, size, size, channels], in the order of `positions`. Raises: DataError."""
        size, channels = self.shape.size, self.shape.channels
        pixels_NHWC = np.empty((len(positions), size, size, channels), np.uint8)
        places = np.argsort(positions, kind="stable")
        distinct, first = np.unique(positions[places], return_index=True)
        last = np.append(first[1:], len(places))
        room = DecodingRoom(_MOST_BYTES)
        reads = self.source.reads(self.rows[distinct])
        with warnings.catch_warnings(), closing(read_ahead(reads, _READS_AT_ONCE, _PICTURES_WAITING)) as pictures:
            warnings.simplefilter("ignore")
            number = -1
            for number, picture in enumerate(pictures):
                pixels, _ = room.decode(picture, self.shape)
                if picture_hash(pixels) != self.hashes[distinct[number]]:
                    raise DataError(f"{picture.name} is another picture than when the data were read first: restore it")
                pixels_NHWC[places[first[number] : last[number]]] = pixels
        if number + 1 != len(distinct):
            raise DataError(f"{number + 1} of {len(distinct)} pictures could be read: the data changed, begin again")
        return pixels_NHWC


def serve(pipe: Connection) -> None:
    """Take a decoder through `pipe`, then decode the positions that come, until its other end is closed.

    An error is an answer. The process ends with the one that started it, also in the middle of a read.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        decoder: PictureDecoder = pipe.recv()
        while True:
            positions = pipe.recv()
            try:
                answer: NDArray[np.uint8] | DataError = decoder.decode(positions)
            except DataError as error:
                answer = error
            except Exception as error:  # noqa: BLE001  # of whatever library: the parent raises it
                answer = DataError(f"pictures cannot be decoded: {type(error).__name__}: {error}")
            pipe.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "it was started by multiprocessing"
    parent.join()
    os._exit(0)
