"""Decodes one picture to uint8 pixels of one size: turned upright, transparency composited on a stated colour.

Infers the size, and rejects pictures that do not fit, by name. Knows Pillow, but not the sources of pictures.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from ray_darts.data.summary import MOST_PROBLEMS, raise_together
from ray_darts.errors import DataError

SMALLEST_SIZE = 8
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
"""Grey levels of 16 bits; of "I", which has 32, only the formats below are 16 bits deep."""
_DEEP_FORMATS = ("PNG", "PPM")
_GREY_MODES = ("1", "L", "LA", *_DEEP_MODES)
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_MALFORMED = (OSError, ValueError, SyntaxError, EOFError, LookupError, ArithmeticError, TypeError, struct.error)
"""What Pillow raises on files that are no pictures or damaged ones."""
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation.

Pillow's `exif_transpose` also encodes all other EXIF data anew, and fails on some of it.
"""
_ONE_BYTE_MODES = ("1", "L", "P")


class NeverSkipped(DataError):
    """What is wrong is not the picture itself: the settings do not fit it, or the machine could not read or hold it."""


@dataclass(frozen=True)
class Picture:
    """One stored sample: `name` for error messages, `content` encoded bytes (or a function that reads them) or pixels.

    Pixels are uint8 [H, W] or [H, W, C].
    """

    name: str
    content: bytes | Callable[[], bytes] | NDArray[np.uint8]


@dataclass(frozen=True)
class PictureShape:
    """The shape of all pictures: `size` x `size` pixels of `channels`; with `resize`, other sizes are resized to it.

    With 1 or 3 channels, transparent pixels are composited on `background`; 2 and 4 channels keep the transparency.
    `to_grey`: with 1 channel, pictures in colour become grey.
    """

    size: int
    channels: int
    resize: bool
    background: str = "white"
    to_grey: bool = False

    @property
    def picture_bytes(self) -> int:
        """Bytes of one decoded picture."""
        return self.size * self.size * self.channels


def infer_shape(
    pictures: Iterator[Picture],
    image_size: int | None,
    channels: int | None,
    background: str = "white",
    most_unreadable: int = MOST_PROBLEMS,
) -> PictureShape:
    """Take what the config does not set from the first readable picture: its width, and 1 (grey) or 3 channels.

    `most_unreadable`: pictures that may come before it.

    Raises: DataError when it is not square and no size is given, or when it is too small, or when none is readable.
    """
    unreadable: list[DataError] = []
    for first in pictures:
        try:
            image = open_picture(first)
            with _named(first.name):
                image.load()
        except NeverSkipped:
            raise
        except DataError as error:
            unreadable.append(error)
            if len(unreadable) >= most_unreadable:
                break
            continue
        return _shape_of(image, first.name, image_size, channels, background)
    raise_together(unreadable, "pictures cannot be used")
    raise DataError("the data set has no pictures")


def _shape_of(
    image: Image.Image, name: str, image_size: int | None, channels: int | None, background: str
) -> PictureShape:
    if image_size is None and image.width != image.height:
        raise NeverSkipped(
            f"{name} is {image.width}x{image.height} pixels, not square; set data.image_size to fit all images"
        )
    size = image.width if image_size is None else image_size
    if size < SMALLEST_SIZE:
        raise NeverSkipped(
            f"{name} is {size}x{size} pixels; at least {SMALLEST_SIZE}x{SMALLEST_SIZE} is needed: set data.image_size"
        )
    inferred = 1 if image.mode in _GREY_MODES else 3
    return PictureShape(
        size, channels or inferred, resize=image_size is not None, background=background, to_grey=channels is not None
    )


def open_picture(picture: Picture) -> Image.Image:
    """Read the header of `picture`: its format, mode and size; most formats decode no pixel. Raises: DataError."""
    content = picture.content
    if isinstance(content, np.ndarray):
        return Image.fromarray(content)
    if callable(content):
        try:
            content = content()
        except OSError as error:
            raise NeverSkipped(
                f"{picture.name} cannot be read: {error.strerror or error}", name=picture.name
            ) from error
    with _named(picture.name):
        image = Image.open(io.BytesIO(content))
    _check_depth(image, picture.name)
    return image


def _check_depth(image: Image.Image, name: str) -> None:
    if image.mode not in _EIGHT_BIT_MODES and not _is_deep(image):
        raise DataError(
            f"{name} holds {image.mode!r} pixels; images of 8 bits per channel, or of 16 bits in grey, are wanted",
            name=name,
        )


def _is_deep(image: Image.Image) -> bool:
    return image.mode in _DEEP_MODES and (image.mode != "I" or image.format in _DEEP_FORMATS)


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Grey levels of 16 bits as 8 bits: 65535 becomes 255, and all others their nearest share of it."""
    if not _is_deep(image):
        return image
    levels = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    hidden = image.info.get("transparency")
    if not isinstance(hidden, int):
        return grey
    return Image.merge("LA", [grey, Image.fromarray(np.where(levels == hidden, 0, 255).astype(np.uint8))])


def decoding_bytes(image: Image.Image, shape: PictureShape) -> int:
    """Memory that `decode_picture` takes at its peak for an opened picture: its file, and each step makes a copy.

    Pillow keeps one byte a pixel of grey levels and palette indices, else four.
    """
    stored = 1 if image.mode in _ONE_BYTE_MODES else 4
    copies = stored
    if _is_deep(image):
        copies, stored = stored + 3 * 4 + 1, 1  # levels and two steps of scaling, then 8 bits
    if is_turned(image):
        copies += stored
    if shape.channels in (1, 3) and _has_transparency(image):
        copies += (0 if image.mode == "RGBA" else 4) + 1 + 4  # as RGBA, its alpha, the canvas
    elif image.mode != _MODES[shape.channels] and not (_is_deep(image) and shape.channels == 1):
        copies += 1 if shape.channels == 1 else 4
    if shape.channels in (2, 4) and shape.resize:
        copies += 4  # resized with its colours multiplied by alpha
    file = getattr(image, "fp", None)
    encoded = file.getbuffer().nbytes if isinstance(file, io.BytesIO) else 0
    return image.width * image.height * copies + encoded


def decode_picture(image: Image.Image, name: str, shape: PictureShape) -> tuple[NDArray[np.uint8], bool]:
    """Decode an opened picture to [size, size, channels]; True where transparent pixels were composited.

    Raises: DataError, also for a truncated file.
    """
    with _named(name):
        image.load()
        _check_depth(image, name)
        turn = _turn(image)
        image = _in_eight_bits(image)
        image = image if turn is None else image.transpose(turn)
    if shape.channels == 1 and image.mode not in _GREY_MODES and not shape.to_grey:
        raise NeverSkipped(
            f"{name} is in colour, the first image is grey; set data.channels = 3 (or convert it)", name=name
        )
    if image.size != (shape.size, shape.size) and not shape.resize:
        raise NeverSkipped(
            f"{name} is {image.width}x{image.height} pixels, the first image {shape.size}x{shape.size}; "
            "set data.image_size to fit all images",
            name=name,
        )
    with _named(name):
        opaque = image if shape.channels in (2, 4) else _opaque(image, shape.background)
        transparent = opaque is not image
        image = opaque
        if image.mode != _MODES[shape.channels]:
            image = image.convert(_MODES[shape.channels])
    if image.size != (shape.size, shape.size):
        # resize the shorter side to `size`, then crop the middle: keeps proportions
        image = ImageOps.fit(image, (shape.size, shape.size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(shape.size, shape.size, shape.channels), transparent


def is_turned(image: Image.Image) -> bool:
    """Whether EXIF data say that an opened picture lies on its side or head."""
    return (image.format != "PNG" or "exif" in image.info) and _turn(image) is not None


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How to turn `image` as its EXIF orientation says; unreadable EXIF data is as none.

    Of a PNG without EXIF data before its pixels, this decodes the pixels.
    """
    if image.format is None:  # made of an array
        return None
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except _MALFORMED:
        return None
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def _has_transparency(image: Image.Image) -> bool:
    # Pillow's `has_transparency_data` fails where the palette is missing
    palette = image.palette.mode if image.mode == "P" and image.palette is not None else ""
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info or palette.endswith("A")


def _opaque(image: Image.Image, background: str) -> Image.Image:
    """Composite transparent pixels on `background`, in RGB; the same object where no pixel is transparent."""
    if not _has_transparency(image):
        return image
    layers = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = layers.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image
    canvas = Image.new("RGB", image.size, ImageColor.getrgb(background))
    canvas.paste(layers, mask=alpha)
    return canvas


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Raise DataError naming the picture for whatever Pillow or the file system raises."""
    try:
        yield
    except (*_MALFORMED, Image.DecompressionBombError) as error:
        reason = "no format that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{name} cannot be read as an image: {reason}", name=name) from error
