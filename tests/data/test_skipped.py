"""Pictures that cannot be read and are left out: which, how many at most, and what is kept of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ray_darts.config import load_config
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.pictures import Picture, PictureShape
from ray_darts.data.images.streams import ImageSet, load_images
from ray_darts.errors import ConfigError, DataError
from tests.data.decoded import decode, pixels_of_set
from tests.data.files import png, random_pixels, write_class_folders, write_parquet

PIXELS = random_pixels(40)
BAD = (3, 10, 11, 39)


def load(path: Path, source: str = "folder", **settings: object) -> ImageSet:
    return load_images(Images.model_validate({"source": source, "path": str(path), **settings}), 10**9)


def damaged(folder: Path) -> Path:
    """Two class folders in which four pictures are cut short, one of them to nothing."""
    write_class_folders(folder, PIXELS)
    for number in BAD:
        file = folder / f"c{number % 2}" / f"{number:04d}.png"
        file.write_bytes(file.read_bytes()[: 60 if number > 3 else 0])
    return folder


def test_damaged_pictures_are_left_out_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    data = load(damaged(tmp_path), on_error="skip")
    kept = [bytes(PIXELS[number]) for number in range(40) if number not in BAD]
    assert sorted(map(bytes, pixels_of_set(data))) == sorted(kept)
    whole = np.sort(np.concatenate([data.weight_rows, data.alpha_rows]))
    assert len(set(whole.tolist())) == 36, "every picture that is left is in one half"
    for picture, label in zip(pixels_of_set(data), data.labels[whole].tolist(), strict=True):
        number = next(n for n in range(40) if np.array_equal(PIXELS[n], picture))
        assert label == number % 2
    (warning,) = (text for text in data.facts.description.warnings if "left out" in text)
    assert warning.startswith("4 pictures left out (data.on_error), first: ")
    assert "cannot be read as an image" in warning
    assert sum(data.facts.description.samples) == 36


def test_the_list_is_kept_with_names_below_the_folder_and_has_a_digest(tmp_path: Path) -> None:
    data = load(damaged(tmp_path / "here"), on_error="skip")
    document = data.documents["skipped.json"]
    names = [entry["name"] for entry in json.loads(document)["skipped"]]
    assert names == ["c0/0010.png", "c1/0003.png", "c1/0011.png", "c1/0039.png"]
    assert data.digests["skipped"] == hashlib.sha256(document.encode()).hexdigest()
    again = load(damaged(tmp_path / "there"), on_error="skip")
    assert (again.documents, again.digests) == (data.documents, data.digests), "machines may have it elsewhere"
    whole = write_class_folders(tmp_path / "whole", PIXELS)
    assert load(whole, on_error="skip").digests == load(whole).digests
    assert load(whole, on_error="skip").documents == {}


def test_rows_of_parquet_files_are_skipped_too(tmp_path: Path) -> None:
    encoded: list[bytes | None] = [png(picture) for picture in PIXELS]
    encoded[7] = b"no picture"
    write_parquet(tmp_path / "a.parquet", encoded, [0, 1] * 20)
    data = load(tmp_path, "parquet", on_error="skip")
    assert len(pixels_of_set(data)) == 39
    assert json.loads(data.documents["skipped.json"]) == {"skipped": [{"row": 7, "name": "a.parquet row 7"}]}


def test_the_list_is_the_same_wherever_the_data_lie(tmp_path: Path) -> None:
    def found(place: str) -> tuple[object, object]:
        write_class_folders(tmp_path / place / "t", PIXELS)
        damaged(tmp_path / place / "v")
        paths = {"validation_path": str(tmp_path / place / "v"), "alpha": "validation"}
        data = load(tmp_path / place / "t", on_error="skip", **paths)
        return data.documents, data.digests

    assert found("here") == found("there")
    encoded: list[bytes | None] = [png(picture) for picture in PIXELS]
    encoded[7] = b"no picture"
    write_parquet(tmp_path / "p" / "a.parquet", encoded, [0, 1] * 20)
    settings: dict[str, object] = {"source": "parquet", "on_error": "skip"}
    by_path, by_uri = (
        load_images(Images.model_validate({**settings, "path": path}), 10**9)
        for path in (str(tmp_path / "p"), (tmp_path / "p").as_uri())
    )
    assert by_path.digests == by_uri.digests


def test_what_the_settings_or_the_machine_cannot_do_is_never_skipped(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path, random_pixels(8, channels=1))
    (folder / "c1" / "colour.png").write_bytes(png(PIXELS[0]))
    with pytest.raises(DataError, match=r"colour\.png is in colour, the first image is grey"):
        load(folder, on_error="skip")
    (folder / "c1" / "colour.png").write_bytes(png(random_pixels(1, 9, channels=1)[0]))
    with pytest.raises(DataError, match=r"colour\.png is 9x9 pixels, the first image 8x8"):
        load(folder, on_error="skip")

    def fails() -> bytes:
        raise OSError(5, "Input/output error")

    pictures = [Picture("a", png(PIXELS[0])), Picture("b", fails)]
    with pytest.raises(DataError, match="b cannot be read: Input/output error"):
        decode(pictures, PictureShape(8, 3, resize=False), most_skipped=2)


def test_the_shape_is_that_of_the_first_picture_that_decodes(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path, PIXELS)
    (folder / "c0" / "0000.png").write_bytes(png(random_pixels(1, 16)[0])[:200])
    data = load(folder, on_error="skip")
    assert data.facts.image_size == 8
    assert len(pixels_of_set(data)) == 39


def test_more_than_the_limit_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="4 pictures cannot be used:") as caught:
        load(damaged(tmp_path))
    assert str(caught.value).count("cannot be read as an image") == 4
    with pytest.raises(DataError, match=r"4 pictures cannot be used \(data\.max_skipped = 3\):"):
        load(tmp_path, on_error="skip", max_skipped=3)
    assert len(pixels_of_set(load(tmp_path, on_error="skip", max_skipped=4))) == 36


def test_a_class_of_which_nothing_is_left_is_named(tmp_path: Path) -> None:
    write_class_folders(tmp_path, PIXELS)
    for file in (tmp_path / "c1").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="every picture of the class c1 in the weight half was skipped"):
        load(tmp_path, on_error="skip")


def test_a_picture_without_room_is_never_skipped() -> None:
    pictures = [Picture(str(n), png(picture)) for n, picture in enumerate(random_pixels(3, size=64))]
    with pytest.raises(DataError, match=r"needs .* GB beside the data set's"):
        decode(pictures, PictureShape(8, 3, resize=True), 1000, most_skipped=3)


@pytest.mark.parametrize("positions", [[0], [4], [0, 1, 2], [1, 3], [2, 3, 4], []])
def test_what_is_left_is_as_it_was(positions: list[int]) -> None:
    pixels = random_pixels(5)
    pictures = [Picture(str(n), b"" if n in positions else png(picture)) for n, picture in enumerate(pixels)]
    found = decode(pictures, PictureShape(8, 3, resize=False), most_skipped=5)
    assert np.array_equal(found.images_NHWC, np.delete(pixels, positions, axis=0))
    assert sorted(found.tally.skipped) == positions


def test_a_limit_without_skipping_is_refused() -> None:
    with pytest.raises(ConfigError, match='max_skipped has no effect with on_error = "fail"'):
        load_config("digits", overrides=["data.max_skipped=3"])
