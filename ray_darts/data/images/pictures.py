"""Decodes pictures to one uint8 array of one size; infers the size, and rejects pictures that do not fit, by name.

Knows Pillow, but not the sources of pictures.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ray_darts.errors import DataError

SMALLEST_SIZE = 8
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_GREY_MODES = ("1", "L", "LA")
_EIGHT_BIT_MODES = (*_GREY_MODES, "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_DECODED_AT_ONCE = 512


@dataclass(frozen=True)
class Picture:
    """One stored sample: `name` for error messages, `content` encoded bytes (or a function that reads them) or pixels.

    Pixels are uint8 [H, W] or [H, W, C].
    """

    name: str
    content: bytes | Callable[[], bytes] | NDArray[np.uint8]


@dataclass(frozen=True)
class PictureShape:
    """The shape of all pictures: `size` x `size` pixels of `channels`; with `resize`, other sizes are resized to it."""

    size: int
    channels: int
    resize: bool

    @property
    def picture_bytes(self) -> int:
        """Bytes of one decoded picture."""
        return self.size * self.size * self.channels


def infer_shape(first: Picture, image_size: int | None, channels: int | None) -> PictureShape:
    """Take what the config does not set from the first picture: its width, and 1 (grey) or 3 channels.

    Raises: DataError when it is not square and no size is given, or when it is too small.
    """
    image = _open(first)
    if image_size is None and image.width != image.height:
        raise DataError(
            f"{first.name} is {image.width}x{image.height} pixels, not square; set data.image_size to fit all images"
        )
    size = image.width if image_size is None else image_size
    if size < SMALLEST_SIZE:
        raise DataError(
            f"{first.name} is {size}x{size} pixels; at least {SMALLEST_SIZE}x{SMALLEST_SIZE} is needed: "
            "set data.image_size"
        )
    if channels is None:
        channels = 1 if image.mode in _GREY_MODES else 3
    return PictureShape(size, channels, resize=image_size is not None)


def decode_all(pictures: Iterator[Picture], count: int, shape: PictureShape) -> NDArray[np.uint8]:
    """Return `count` pictures as uint8 [count, size, size, channels], decoded on all cores, in order.

    Raises: DataError naming the first picture that is missing, corrupt or of another size.
    """
    decoded = np.empty((count, shape.size, shape.size, shape.channels), np.uint8)
    position = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while group := list(islice(pictures, _DECODED_AT_ONCE)):
            for pixels in pool.map(lambda picture: _decode(picture, shape), group):
                decoded[position] = pixels
                position += 1
    assert position == count, f"{position} pictures were read, {count} were expected"
    return decoded


def _open(picture: Picture) -> Image.Image:
    """Decode all of `picture`, so that a truncated file raises here."""
    content = picture.content
    try:
        if isinstance(content, np.ndarray):
            return Image.fromarray(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content() if callable(content) else content))
            image.load()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{picture.name} cannot be read as an image: {error}", name=picture.name) from error
    if image.mode not in _EIGHT_BIT_MODES:
        raise DataError(f"{picture.name} holds {image.mode!r} pixels; images of 8 bits per channel are wanted")
    return image


def _decode(picture: Picture, shape: PictureShape) -> NDArray[np.uint8]:
    image = _open(picture)
    if shape.channels == 1 and image.mode not in _GREY_MODES:
        raise DataError(f"{picture.name} is in colour, the first image is grey; set data.channels = 3 (or convert it)")
    if image.size != (shape.size, shape.size) and not shape.resize:
        raise DataError(
            f"{picture.name} is {image.width}x{image.height} pixels, the first image {shape.size}x{shape.size}; "
            "set data.image_size to fit all images"
        )
    image = image.convert(_MODES[shape.channels])
    if image.size != (shape.size, shape.size):
        # resize the shorter side to `size`, then crop the middle: keeps proportions
        image = ImageOps.fit(image, (shape.size, shape.size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(shape.size, shape.size, shape.channels)
