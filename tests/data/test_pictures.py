from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ray_darts.data.images.pictures import Picture, PictureShape, decode_all, infer_shape
from ray_darts.errors import DataError
from tests.data.files import png, random_pixels


def picture(image: Image.Image, name: str = "a.png") -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Picture(name, buffer.getvalue())


def decode(*pictures: Picture, shape: PictureShape) -> NDArray[np.uint8]:
    return decode_all(iter(pictures), len(pictures), shape)


def test_pictures_come_out_as_they_went_in_and_in_order() -> None:
    pixels = random_pixels(1100)
    out = decode_all((Picture(str(n), png(p)) for n, p in enumerate(pixels)), 1100, PictureShape(8, 3, resize=False))
    assert np.array_equal(out, pixels)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("RGB", 3), ("P", 3), ("RGBA", 3)])
def test_channels_follow_the_first_picture(mode: str, channels: int) -> None:
    shape = infer_shape(picture(Image.new("RGB", (9, 9)).convert(mode)), None, None)
    assert shape == PictureShape(9, channels, resize=False)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_given_channels_win(channels: int) -> None:
    first = picture(Image.new("L", (8, 8), 7))
    shape = infer_shape(first, None, channels)
    assert shape.picture_bytes == 64 * channels
    assert decode(first, shape=shape).shape == (1, 8, 8, channels)


def test_grey_pictures_among_coloured_ones_are_taken_as_colour() -> None:
    out = decode(picture(Image.new("L", (8, 8), 200)), shape=PictureShape(8, 3, resize=False))
    assert np.all(out == 200)


def test_a_coloured_picture_among_grey_ones_is_named() -> None:
    with pytest.raises(DataError, match=r"b\.png is in colour, the first image is grey; set data\.channels = 3"):
        decode(picture(Image.new("RGB", (8, 8)), "b.png"), shape=PictureShape(8, 1, resize=False))


def test_another_size_is_named_unless_a_size_is_given() -> None:
    wide = picture(Image.new("RGB", (12, 8)), "wide.png")
    with pytest.raises(DataError, match=r"wide\.png is 12x8 pixels, the first image 8x8; set data\.image_size"):
        decode(wide, shape=PictureShape(8, 3, resize=False))
    assert decode(wide, shape=PictureShape(8, 3, resize=True)).shape == (1, 8, 8, 3)


def test_fitting_keeps_proportions_and_the_middle() -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 8:24] = 255
    out = decode(picture(Image.fromarray(pixels)), shape=PictureShape(8, 3, resize=True))
    assert np.all(out[:, :, 1:7] == 255)


@pytest.mark.parametrize(
    ("size", "image_size", "message"),
    [((12, 8), None, "12x8 pixels, not square; set data.image_size"), ((7, 7), None, "7x7 pixels; at least 8x8")],
)
def test_a_first_picture_that_gives_no_size_is_named(
    size: tuple[int, int], image_size: int | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        infer_shape(picture(Image.new("RGB", size)), image_size, None)


def test_sixteen_bit_pictures_are_refused() -> None:
    deep = picture(Image.fromarray(np.full((8, 8), 40_000, np.uint16)), "deep.png")
    with pytest.raises(DataError, match=r"deep\.png holds 'I;16' pixels"):
        infer_shape(deep, None, None)


@pytest.mark.parametrize("content", [b"", b"no picture", png(random_pixels(1)[0])[:90]])
def test_a_corrupt_picture_is_named(content: bytes) -> None:
    with pytest.raises(DataError, match=r"broken\.png cannot be read as an image"):
        decode(Picture("broken.png", content), shape=PictureShape(8, 3, resize=False))
