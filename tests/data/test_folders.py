"""Class folders: which of them are classes, in which order, and what is passed over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.folders import ClassFolders
from ray_darts.data.images.pictures import open_picture
from ray_darts.data.images.streams import ImageSet, load_images
from ray_darts.errors import DataError
from tests.data.decoded import pixels_of_set
from tests.data.files import png, random_pixels, write_class_folders

PIXELS = random_pixels(12)
ONE = png(PIXELS[0])


def load_folder(folder: Path, **settings: object) -> ImageSet:
    return load_images(Images.model_validate({"source": "folder", "path": str(folder), **settings}), 10**9)


def renamed(folder: Path, *names: str) -> Path:
    """Pictures in class folders of these names."""
    write_class_folders(folder, PIXELS, len(names))
    for number, name in enumerate(names):
        (folder / f"c{number}").rename(folder / f"{name} ")
    for name in names:
        (folder / f"{name} ").rename(folder / name)
    return folder


@pytest.mark.parametrize(
    ("train", "others"),
    [
        ("train", ["val"]),
        ("TRAIN", ["TEST"]),
        ("Train", ["Test", "Val"]),
        ("mnist_train", ["mnist_test"]),
        ("training set", ["dev"]),
        ("train", []),
    ],
)
def test_of_splits_only_the_training_folder_is_read(tmp_path: Path, train: str, others: list[str]) -> None:
    write_class_folders(tmp_path / train, PIXELS)
    for name in others:
        write_class_folders(tmp_path / name, random_pixels(20))
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "names.txt").write_text("x")
    data = load_folder(tmp_path)
    assert data.facts.description.samples == (6, 6)
    taken, left_out, _ = data.facts.description.notes
    assert taken == f"folder {train} taken as the training data"
    assert left_out.startswith(f"folders left out ({len(others) + 1}): ")
    assert all(name in left_out for name in [*others, "meta (no split)"])


@pytest.mark.parametrize("names", [("Train", "Test"), ("train", "dev"), ("val", "test"), ("train", "test", "meta")])
def test_splits_that_hold_pictures_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    renamed(tmp_path, *names)
    with pytest.raises(DataError, match=r"has folders named like splits of a data set: .*name all classes in data\.cl"):
        load_folder(tmp_path)
    data = load_folder(tmp_path, classes=names)
    assert data.facts.description.classes == names


def test_a_split_beside_classes_is_refused_naming_both(tmp_path: Path) -> None:
    renamed(tmp_path, "train", "plane")
    with pytest.raises(
        DataError, match=r"splits of a data set: train \(train\), and beside them plane; set data\.path"
    ):
        load_folder(tmp_path)
    data = load_folder(tmp_path, classes=["plane", "train"])
    assert data.labels.tolist() == [0] * 6 + [1] * 6
    assert np.array_equal(pixels_of_set(data)[6:], PIXELS[0::2])


def test_a_word_of_a_split_in_a_longer_name_is_a_class(tmp_path: Path) -> None:
    data = load_folder(renamed(tmp_path, "bullet_train", "test tube", "valley"))
    assert data.facts.description.classes == ("bullet_train", "test tube", "valley")


def test_folders_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    data = load_folder(renamed(tmp_path, "10", "2", "1"))
    assert data.facts.description.classes == ("1", "2", "10")
    assert np.array_equal(pixels_of_set(data)[8:], PIXELS[0::3])


def test_classes_are_taken_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    data = load_folder(renamed(tmp_path, "cat", "dog", "eel"), classes=["eel", "cat"])
    assert data.labels.tolist() == [0] * 4 + [1] * 4
    assert np.array_equal(pixels_of_set(data), np.concatenate([PIXELS[2::3], PIXELS[0::3]]))
    assert data.facts.description.notes == (
        "folders left out (1), not in data.classes: dog",
        "2 classes, 4 + 4 samples (weight half + alpha half): eel 2 + 2, cat 2 + 2",
    )


def test_a_class_without_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no folder eel \(data\.classes\), only cat, dog"):
        load_folder(renamed(tmp_path, "cat", "dog"), classes=["dog", "eel"])


def test_named_classes_are_looked_for_in_the_training_folder(tmp_path: Path) -> None:
    renamed(tmp_path / "train", "cat", "dog")
    renamed(tmp_path / "test", "cat", "dog")
    assert load_folder(tmp_path, classes=["dog", "cat"]).facts.description.classes == ("dog", "cat")


def test_whatever_is_no_picture_is_passed_over_and_counted(tmp_path: Path) -> None:
    write_class_folders(tmp_path, PIXELS)
    folder = tmp_path / "c0"
    (folder / "notes.txt").write_text("x")
    (folder / "Thumbs.db").write_text("x")
    (folder / "photo.heic").write_text("x")
    (folder / "._0000.png").write_bytes(b"resource fork")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "0000-checkpoint.png").write_bytes(ONE)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    write_class_folders(tmp_path / ".cache", PIXELS)
    (folder / "linked.png").symlink_to(tmp_path / ".cache")
    os.mkfifo(folder / "pipe.png")
    (tmp_path / "__MACOSX").mkdir()
    data = load_folder(tmp_path)
    assert data.facts.description.samples == (6, 6)
    note, _ = data.facts.description.notes
    said, reasons = note.split(": ")
    assert said == "left out, as no pictures"
    assert reasons.startswith("2 hidden, ")
    others = {"1 .txt", "1 .db", "1 .heic", "1 dangling links", "1 linked folders", "1 no regular files"}
    assert set(reasons.split(", ")[1:]) == others


def test_a_linked_picture_is_read(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "data", PIXELS)
    (tmp_path / "elsewhere.png").write_bytes(ONE)
    (tmp_path / "data" / "c0" / "x.png").symlink_to(tmp_path / "elsewhere.png")
    assert load_folder(tmp_path / "data").facts.description.samples == (7, 6)


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    write_class_folders(tmp_path, PIXELS)
    (tmp_path / "c1" / "0005.png").write_bytes(png(PIXELS[5])[:70])
    with pytest.raises(DataError, match=r"c1/0005\.png cannot be read as an image"):
        load_folder(tmp_path)


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    source = ClassFolders(write_class_folders(tmp_path, PIXELS))
    (tmp_path / "c1" / "0007.png").unlink()
    row = next(row for row in range(12) if source.name(row).endswith("0007.png"))
    (picture,) = source.pictures(np.array([row]))
    with pytest.raises(DataError, match=r"c1/0007\.png cannot be read: .*No such file"):
        open_picture(picture)


def test_folders_that_are_no_data_set_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone is no folder"):
        load_folder(tmp_path / "gone")
    with pytest.raises(DataError, match="x is no folder"):
        load_folder(tmp_path / ("x" * 5000))
    (tmp_path / "one").mkdir()
    with pytest.raises(DataError, match="has 1 class folders; one folder per class is wanted"):
        load_folder(tmp_path)
    (tmp_path / "two").mkdir()
    with pytest.raises(DataError, match=r"class folder .*one holds no picture"):
        load_folder(tmp_path)


def test_an_address_is_no_folder() -> None:
    with pytest.raises(DataError, match=r"data\.path s3://bucket/x: class folders are read from a mounted folder"):
        load_images(Images(source="folder", path="s3://bucket/x"), 10**9)


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    renamed(tmp_path, "a", "b")
    shutil.copytree(tmp_path / "a", os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    with pytest.raises(DataError, match=r"folder '\\udcff' in .* has no name in UTF-8: rename it"):
        load_folder(tmp_path)
