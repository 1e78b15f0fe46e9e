"""Small data sets as people bring them by mistake: each is refused in one message that says what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import load_images
from ray_darts.errors import DataError
from tests.data.files import png, random_pixels, write_class_folders, write_parquet

PIXELS = random_pixels(12)
ENCODED: list[bytes | None] = [png(picture) for picture in PIXELS]

Build = Callable[[Path], str]


def parquet(labels: list[int], label_type: pa.DataType | None = None, name: str = "a.parquet") -> Build:
    return lambda folder: str(write_parquet(folder / name, ENCODED, labels, label_type=label_type).parent)


def two_columns(name: str) -> Build:
    def build(folder: Path) -> str:
        names = ["image", "label", name]
        columns = [pa.array(ENCODED, pa.binary()), pa.array([0, 1] * 6), pa.array([0, 1] * 6)]
        pq.write_table(pa.table(columns, names=names), folder / "a.parquet")
        return str(folder)

    return build


def folders(*names: str) -> Build:
    def build(folder: Path) -> str:
        for name in names:
            write_class_folders(folder / name, PIXELS[:4])
        return str(folder)

    return build


def a_name_without_utf8(folder: Path) -> str:
    write_class_folders(folder, PIXELS)
    with open(os.fsencode(folder / "c0") + b"/\xff.png", "wb") as file:
        file.write(b"x")
    return str(folder)


@pytest.mark.parametrize(
    ("source", "build", "message"),
    [
        ("parquet", parquet([1, 2] * 6), r"no sample has the label 0; there are 2 labels, 1 to 2: number them from 0"),
        ("parquet", parquet([0, 5] * 6), r"no sample has the label 1, 2, 3, 4; there are 2 labels, 0 to 5"),
        ("parquet", parquet([-1] * 12), r"all labels are negative, -1 in .*a\.parquet row 0: integers from 0"),
        ("parquet", parquet([0] * 12), r"all labels are 0 in .* at least 2 classes are needed"),
        ("parquet", parquet([2**63, 1] * 6, pa.uint64()), r"a\.parquet: a label is too large"),
        ("parquet", two_columns("image"), r"a\.parquet has 2 columns called 'image': rename one of them"),
        ("parquet", two_columns("label"), r"a\.parquet has 2 columns called 'label': rename one of them"),
        ("parquet", parquet([0, 1] * 6, name="eval-0.parquet"), r"holds no \.parquet files to train on, only"),
        ("parquet", lambda folder: str(folder / ("x" * 5000)), r"cannot be reached"),
        ("parquet", lambda folder: "nothing://x/y", r"data\.path nothing://x/y cannot be reached"),
        ("folder", lambda folder: str(folder / ("x" * 5000)), r"is no folder; a folder of class folders is wanted"),
        ("folder", lambda folder: "s3://bucket/x", r"data\.path s3://bucket/x: class folders are read from a mounted"),
        ("folder", folders("val", "test"), r"has folders named like splits of a data set: test \(test\), val"),
        ("folder", folders("Val", "TEST"), r"has folders named like splits of a data set"),
        ("folder", folders("train", "train_set", "x"), r"has folders named like splits"),
        ("folder", a_name_without_utf8, r"file '\\udcff\.png' in .*/c0 has no name in UTF-8: rename it"),
    ],
)
def test_each_is_named(tmp_path: Path, source: str, build: Build, message: str) -> None:
    settings = Images.model_validate({"source": source, "path": build(tmp_path)})
    with pytest.raises(DataError, match=message) as caught:
        load_images(settings, 10**9)
    assert "data.fraction" not in str(caught.value), "which has nothing to do with it"


def test_a_pipe_among_the_pictures_is_counted_and_never_read(tmp_path: Path) -> None:
    write_class_folders(tmp_path, PIXELS)
    os.mkfifo(tmp_path / "c0" / "p.png")
    notes = load_images(Images(source="folder", path=str(tmp_path)), 10**9).facts.description.notes
    assert "left out, as no pictures: 1 no regular files" in notes
