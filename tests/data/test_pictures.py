from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ray_darts.data.images.pictures import Picture, PictureShape, infer_shape
from ray_darts.errors import DataError
from tests.data.decoded import decode as decode_list
from tests.data.files import png, random_pixels


def picture(image: Image.Image, name: str = "a.png") -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Picture(name, buffer.getvalue())


def decode(*pictures: Picture, shape: PictureShape) -> NDArray[np.uint8]:
    return decode_list(list(pictures), shape).images_NHWC


def inferred(first: Picture, image_size: int | None = None, channels: int | None = None) -> PictureShape:
    return infer_shape(iter([first]), image_size, channels)


def test_pictures_come_out_as_they_went_in_and_in_order() -> None:
    pixels = random_pixels(1100)
    out = decode(*(Picture(str(n), png(p)) for n, p in enumerate(pixels)), shape=PictureShape(8, 3, resize=False))
    assert np.array_equal(out, pixels)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("RGB", 3), ("P", 3), ("RGBA", 3)])
def test_channels_follow_the_first_picture(mode: str, channels: int) -> None:
    shape = inferred(picture(Image.new("RGB", (9, 9)).convert(mode)))
    assert shape == PictureShape(9, channels, resize=False)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_given_channels_win(channels: int) -> None:
    first = picture(Image.new("L", (8, 8), 7))
    shape = inferred(first, None, channels)
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
        inferred(picture(Image.new("RGB", size)), image_size)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_grey_levels_of_sixteen_bits_are_scaled_to_eight(kind: str) -> None:
    levels = np.zeros((8, 8), np.uint16)
    levels[0, :5] = [0, 128, 129, 32768, 65535]
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, kind)
    first = Picture("deep", buffer.getvalue())
    assert inferred(first) == PictureShape(8, 1, resize=False)
    assert decode(first, shape=inferred(first))[0, 0, :5, 0].tolist() == [0, 0, 1, 128, 255]
    assert (decode(first, shape=PictureShape(8, 3, resize=False))[0, 0, 4] == 255).all()


def test_a_grey_picture_of_sixteen_bits_is_turned_as_its_exif_orientation_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(buffer, "PNG", exif=exif)
    out = decode(Picture("deep.png", buffer.getvalue()), shape=PictureShape(8, 1, resize=False))
    assert out[0, 0, 0, 0] == round(63_000 * 255 / 65535)


def test_transparent_grey_of_sixteen_bits_takes_the_background() -> None:
    levels = np.full((8, 8), 40_000, np.uint16)
    levels[0, 0] = 1000
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", transparency=1000)
    first = Picture("a.png", buffer.getvalue())
    assert Image.open(io.BytesIO(buffer.getvalue())).info["transparency"] == 1000
    out = decode(first, shape=PictureShape(8, 3, resize=False, background="#102030"))
    assert out[0, 0, 0].tolist() == [16, 32, 48]
    assert out[0, 1, 1].tolist() == [156, 156, 156]


def test_colours_that_cannot_become_grey_are_named() -> None:
    buffer = io.BytesIO()
    Image.new("LAB", (8, 8)).save(buffer, "TIFF")
    with pytest.raises(DataError, match=r"a\.tif cannot be read as an image: conversion from LAB"):
        decode(Picture("a.tif", buffer.getvalue()), shape=PictureShape(8, 1, resize=False, to_grey=True))


@pytest.mark.parametrize(("dtype", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_deeper_pictures_are_refused(dtype: type, mode: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40_000, dtype)).save(buffer, "TIFF")
    with pytest.raises(DataError, match=rf"deep\.tif holds '{mode}' pixels; .* or of 16 bits in grey, are wanted"):
        inferred(Picture("deep.tif", buffer.getvalue()))


def test_colour_becomes_grey_where_one_channel_is_asked_for() -> None:
    first = picture(Image.new("RGB", (8, 8), (255, 0, 0)))
    assert (decode(first, shape=inferred(first, None, 1)) == 76).all(), "0.299 of 255"


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "TIFF"), ("CMYK", "JPEG"), ("RGB", "TIFF")])
def test_other_colours_and_formats_come_out_as_rgb(mode: str, kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 60)).convert(mode).save(buffer, kind)
    out = decode(Picture("a", buffer.getvalue()), shape=PictureShape(8, 3, resize=False))
    assert np.abs(out[0, 0, 0].astype(int) - [200, 30, 60]).max() <= 3


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    out = decode(Picture("a.gif", buffer.getvalue()), shape=PictureShape(8, 3, resize=False))
    assert out[0, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("content", [b"", b"no picture", png(random_pixels(1)[0])[:90]])
def test_a_corrupt_picture_is_named(content: bytes) -> None:
    with pytest.raises(DataError, match=r"broken\.png cannot be read as an image"):
        decode(Picture("broken.png", content), shape=PictureShape(8, 3, resize=False))


def coloured(mode: str, drawn: str = "black") -> Image.Image:
    """An 8x8 picture whose left half is drawn and whose right half is transparent, with black below it."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste(drawn, (0, 0, 4, 8))
    if mode == "P":
        palette = Image.new("P", (8, 8), 1)
        palette.putpalette([0, 0, 0, 0, 0, 0])
        palette.paste(0, (0, 0, 4, 8))
        palette.info["transparency"] = 1
        return palette
    if mode == "tRNS":
        keyed = Image.new("RGB", (8, 8), (9, 9, 9))
        keyed.paste((0, 0, 0), (0, 0, 4, 8))
        keyed.info["transparency"] = (9, 9, 9)
        return keyed
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "tRNS"])
@pytest.mark.parametrize(("background", "colour"), [("white", (255, 255, 255)), ("#102030", (16, 32, 48))])
def test_transparent_pixels_take_the_background(mode: str, background: str, colour: tuple[int, int, int]) -> None:
    image = coloured(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **({"transparency": image.info["transparency"]} if image.info else {}))
    (out,) = decode(Picture("a.png", buffer.getvalue()), shape=PictureShape(8, 3, False, background))
    assert np.all(out[:, :4] == 0)
    assert np.all(out[:, 4:] == colour)


def test_half_transparent_pixels_are_mixed_with_the_background() -> None:
    half = picture(Image.new("RGBA", (8, 8), (100, 0, 200, 51)))
    (out,) = decode(half, shape=PictureShape(8, 3, False, "white"))
    assert out[0, 0].tolist() == [224, 204, 244], "51/255 of the colour, 204/255 of white"


def test_a_grey_transparent_picture_becomes_grey() -> None:
    (out,) = decode(picture(coloured("LA")), shape=PictureShape(8, 1, False, "white"))
    assert out[0, :, 0].tolist() == [0, 0, 0, 0, 255, 255, 255, 255]


@pytest.mark.parametrize(("channels", "mode"), [(2, "LA"), (4, "RGBA")])
def test_channels_of_transparency_are_kept_where_they_are_asked_for(channels: int, mode: str) -> None:
    (out,) = decode(picture(coloured("RGBA")), shape=PictureShape(8, channels, False))
    assert np.array_equal(out, np.asarray(coloured("RGBA").convert(mode)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "CMYK"])
def test_an_opaque_picture_has_the_pixels_that_pillow_converts_it_to(mode: str) -> None:
    pixels = Image.fromarray(random_pixels(1)[0])
    image = pixels.convert(mode) if mode != "P" else pixels.quantize(16)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    (out,) = decode(Picture("a", buffer.getvalue()), shape=PictureShape(8, 3, False))
    assert np.array_equal(out, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_picture_is_turned_as_its_exif_orientation_says(orientation: int, kind: str) -> None:
    upright = random_pixels(1)[0]
    stored = {  # what a camera stores for each orientation, so that undoing it gives `upright`
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(buffer, kind, exif=exif)
    (out,) = decode(Picture("a", buffer.getvalue()), shape=PictureShape(8, 3, False))
    assert np.array_equal(out, upright)


def test_damaged_exif_data_is_as_none() -> None:
    pixels = random_pixels(1)[0]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=b"Exif\x00\x00no TIFF header")
    (out,) = decode(Picture("a", buffer.getvalue()), shape=PictureShape(8, 3, False))
    assert np.array_equal(out, pixels)


def test_a_picture_is_turned_whatever_its_other_exif_data_are() -> None:
    pixels = random_pixels(1)[0]
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    software_as_a_fraction = struct.pack("<HHII", 0x0131, 5, 1, 38)
    entries = struct.pack("<H", 2) + orientation + software_as_a_fraction + struct.pack("<I", 0)
    exif = b"Exif\x00\x00" + struct.pack("<2sHI", b"II", 42, 8) + entries + struct.pack("<II", 1, 2)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels, 1))).save(buffer, "PNG", exif=exif)
    (out,) = decode(Picture("a", buffer.getvalue()), shape=PictureShape(8, 3, False))
    assert np.array_equal(out, pixels)


def test_a_picture_without_the_palette_of_its_colours_is_decoded() -> None:
    buffer = io.BytesIO()
    Image.fromarray(random_pixels(1)[0]).convert("P").save(buffer, "PNG")
    data = buffer.getvalue()
    start = data.index(b"PLTE") - 4
    (length,) = struct.unpack(">I", data[start : start + 4])
    without = data[:start] + data[start + 12 + length :]
    (out,) = decode(Picture("a", without), shape=PictureShape(8, 3, False))
    assert out.shape == (8, 8, 3)
