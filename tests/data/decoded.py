"""Pixels as tests look at them: of a loaded data set, and of pictures that are decoded alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.images.decoding import Decoder
from ray_darts.data.images.decoding_room import DecodingRoom
from ray_darts.data.images.pictures import Picture, PictureShape
from ray_darts.data.images.streams import ImageSet
from ray_darts.data.images.tally import Tally


@dataclass(frozen=True)
class Decoded:
    images_NHWC: NDArray[np.uint8]
    tally: Tally
    peak_bytes: int


def pixels_of_set(data: ImageSet) -> NDArray[np.uint8]:
    """uint8 [N, H, W, C] of every picture that was read and not skipped."""
    rows = np.sort(np.concatenate([data.weight_rows, data.alpha_rows]))
    return data.pixels.take(rows).numpy()


def decode(pictures: list[Picture], shape: PictureShape, limit_bytes: int = 10**9, most_skipped: int = 0) -> Decoded:
    """All pictures, those that are skipped left out."""
    room = DecodingRoom(limit_bytes, " beside the data set's")
    images_NHWC = np.empty((len(pictures), shape.size, shape.size, shape.channels), np.uint8)
    tally = Tally(len(pictures), (shape.size, shape.size, shape.channels))
    decoder = Decoder(shape, room, np.ones(len(pictures), bool), most_skipped)
    decoder.decode_all(iter(pictures), lambda start, stop: images_NHWC[start:stop], tally, lambda start, pixels: None)
    return Decoded(images_NHWC[tally.kept()], tally, room.peak_bytes(len(pictures)))
