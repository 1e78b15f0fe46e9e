"""All pictures together: one flat colour, memory of decoding, every unreadable picture in one message."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ray_darts.data.images import decoding_room
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.pictures import Picture, PictureShape, decode_picture, decoding_bytes, open_picture
from ray_darts.data.images.streams import ImageSet, load_images
from ray_darts.errors import DataError
from tests.data.decoded import decode, pixels_of_set
from tests.data.files import png, random_pixels, write_class_folders, write_parquet

COLOUR = PictureShape(8, 3, resize=True)


def load(folder: Path, **settings: object) -> ImageSet:
    return load_images(Images.model_validate({"source": "folder", "path": str(folder), **settings}), 10**9)


def icons(folder: Path, count: int, drawn: str = "black") -> Path:
    """Shapes of one colour on transparent black, in turn to two classes."""
    for number in range(count):
        image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
        image.paste(drawn, (1, 1, 2 + number % 5, 6))
        target = folder / f"c{number % 2}" / f"{number:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target)
    return folder


def test_black_icons_on_transparent_ground_are_seen(tmp_path: Path) -> None:
    data = load(icons(tmp_path, 80))
    assert data.facts.description.warnings == ()
    assert all(len(np.unique(picture)) == 2 for picture in pixels_of_set(data))


def test_icons_in_the_colour_of_the_background_are_refused_with_the_setting_that_helps(tmp_path: Path) -> None:
    folder = icons(tmp_path, 80, drawn="white")
    with pytest.raises(DataError) as caught:
        load(folder)
    assert str(caught.value) == (
        f"80 of 80 pictures are one flat colour once decoded, first {folder}/c0/0000.png; 80 of them have transparent "
        "pixels, which take the colour data.background = 'white': set another one"
    )
    assert load(folder, background="black").facts.description.warnings == ()


def test_opaque_pictures_of_one_colour_are_refused_without_advice_on_transparency(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path, np.full((8, 8, 8, 3), 7, np.uint8))
    with pytest.raises(DataError, match=r"8 of 8 pictures are one flat colour once decoded, .*; look at these files"):
        load(folder)


@pytest.mark.parametrize(("num_flat", "warns"), [(1, False), (2, True)])
def test_more_than_one_flat_picture_in_a_hundred_is_warned_of(tmp_path: Path, num_flat: int, warns: bool) -> None:
    pixels = random_pixels(100)
    pixels[50 : 50 + num_flat] = 9
    warnings = load(write_class_folders(tmp_path, pixels)).facts.description.warnings
    assert (len(warnings) == 1) is warns
    assert not warns or f"2 of 100 pictures are one flat colour once decoded, first {tmp_path}/c" in warnings[0]


def test_all_unreadable_pictures_are_named_at_once(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path, random_pixels(12))
    broken = [folder / f"c{n % 2}" / f"{n:04d}.png" for n in (0, 3, 8)]
    for file in broken:
        file.write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        load(folder)
    first, *lines = str(caught.value).splitlines()
    assert first == "3 pictures cannot be used:"
    assert [line.split()[0] for line in lines] == sorted(map(str, broken), key=lambda name: ("/c1/" in name, name))
    assert caught.value.facts["name"] == str(broken[0])


def test_rows_without_bytes_and_broken_rows_are_named_together(tmp_path: Path) -> None:
    encoded: list[bytes | None] = [png(picture) for picture in random_pixels(10)]
    encoded[0] = encoded[7] = None
    encoded[4] = b"broken"
    file = write_parquet(tmp_path / "a.parquet", encoded, [0, 1] * 5)
    with pytest.raises(DataError, match=r"(?s)3 pictures.*row 0 has no.*row 4 cannot be read.*row 7 has no image"):
        load_images(Images(source="parquet", path=str(file)), 10**9)


def test_ten_unreadable_pictures_are_named_and_no_more(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path, random_pixels(40))
    for file in folder.glob("c1/*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        load(folder)
    lines = str(caught.value).splitlines()
    assert (lines[0], len(lines)) == ("at least 10 pictures cannot be used:", 11)


def test_unreadable_parquet_files_are_named_at_once(tmp_path: Path) -> None:
    encoded: list[bytes | None] = [png(picture) for picture in random_pixels(4)]
    for name in "abc":
        write_parquet(tmp_path / f"{name}.parquet", encoded, [0, 1, 0, 1])
    for name in "ac":
        (tmp_path / f"{name}.parquet").write_bytes(b"no Parquet")
    with pytest.raises(DataError, match=r"(?s)2 Parquet files cannot be used:.*/a\.parquet cannot.*/c\.parquet cannot"):
        load_images(Images(source="parquet", path=str(tmp_path)), 10**9)


def test_a_picture_that_decoding_has_no_memory_for_is_named_before_it_is_decoded() -> None:
    encoded = png(np.zeros((1000, 2000, 3), np.uint8))
    large, cost = Picture("large.png", encoded), 8_000_000 + len(encoded)
    decode([large], COLOUR, cost)
    with pytest.raises(DataError) as caught:
        decode([large], COLOUR, cost - 1)
    assert str(caught.value) == (
        "decoding large.png of 2000x1000 pixels needs 0.00801 GB beside the data set's, 0.00801 GB are "
        "left: make it smaller"
    )


def test_the_memory_of_decoding_counts_the_largest_pictures_of_all_threads(tmp_path: Path) -> None:
    sizes = [(8, 8), *[(100, 100)] * 2, *[(8, 8)] * 5]
    for number, size in enumerate(sizes):
        target = tmp_path / f"c{number % 2}" / f"{number}.png"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)).save(target)
    about = load(tmp_path, image_size=8).facts.description
    threads = min(os.cpu_count() or 1, len(sizes))
    files = [tmp_path / f"c{number % 2}" / f"{number}.png" for number in range(len(sizes))]
    costs = [width * height * 4 + file.stat().st_size for (width, height), file in zip(sizes, files, strict=True)]
    costs.sort(reverse=True)
    assert about.memory_bytes == 8 * 8 * 8 * 3
    assert about.loading_bytes == about.memory_bytes + sum(costs[:threads])


@pytest.mark.parametrize(
    ("mode", "orientation", "channels", "copies"),
    [
        ("RGB", 1, 3, 4),
        ("RGB", 6, 3, 8),
        ("L", 6, 1, 2),
        ("L", 1, 3, 5),
        ("P", 1, 3, 10),
        ("RGBA", 1, 3, 9),
        ("LA", 6, 3, 17),
        ("RGBA", 1, 4, 8),
    ],
)
def test_each_step_of_decoding_counts_its_copy(mode: str, orientation: int, channels: int, copies: int) -> None:
    """The numbers are those measured with one picture of 36 million pixels, in bytes a pixel."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.new("RGBA", (30, 20)).convert(mode).save(buffer, "PNG", exif=exif)
    image = open_picture(Picture("a", buffer.getvalue()))
    assert decoding_bytes(image, PictureShape(8, channels, resize=True)) == 30 * 20 * copies + len(buffer.getvalue())


def test_threads_wait_until_their_pictures_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    encoded = [png(pixels) for pixels in random_pixels(40, 16)]
    cost = max(decoding_bytes(open_picture(Picture("a", content)), COLOUR) for content in encoded)
    guard, running, most = threading.Lock(), 0, 0

    def watched(*arguments: object) -> object:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        try:
            return decode_picture(*arguments)  # type: ignore[arg-type]
        finally:
            with guard:
                running -= 1

    monkeypatch.setattr(decoding_room, "decode_picture", watched)
    pictures = [Picture(str(n), content) for n, content in enumerate(encoded)]
    decoded = decode(pictures, COLOUR, 3 * cost)
    assert most <= 3
    assert 2 * cost < decoded.peak_bytes <= 3 * cost
