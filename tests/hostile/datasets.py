"""Small data sets as people bring them by mistake, in a folder called `data`."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.files import png, random_pixels, write_class_folders, write_parquet
from tests.hostile.case import Case, Make

PIXELS = random_pixels(12)
ENCODED: list[bytes | None] = [png(picture) for picture in PIXELS]


def data(source: str, make: Make, phrase: str, path: str = "data", code: int = 2) -> Case:
    def in_folder(folder: Path) -> None:
        (folder / "data").mkdir()
        make(folder / "data")

    settings = (f"data.source={source}", f"data.path={path}", "search.batch_size=2")
    words = ("data", "check", *(word for setting in settings for word in ("--set", setting)))
    return Case(words, phrase, code, in_folder)


def nothing(folder: Path) -> None:
    """No files."""


def parquet(labels: list[int], label_type: pa.DataType | None = None, name: str = "a.parquet") -> Make:
    return lambda folder: write_parquet(folder / name, ENCODED, labels, label_type=label_type)


def two_columns(name: str) -> Make:
    def make(folder: Path) -> None:
        names = ["image", "label", name]
        columns = [pa.array(ENCODED, pa.binary()), pa.array([0, 1] * 6), pa.array([0, 1] * 6)]
        pq.write_table(pa.table(columns, names=names), folder / "a.parquet")

    return make


def folders(*names: str) -> Make:
    def make(folder: Path) -> None:
        for name in names:
            write_class_folders(folder / name, PIXELS[:4])

    return make


def a_name_without_utf8(folder: Path) -> None:
    write_class_folders(folder, PIXELS)
    with open(os.fsencode(folder / "c0") + b"/\xff.png", "wb") as file:
        file.write(b"x")


def a_name_with_a_line_feed(folder: Path) -> None:
    write_class_folders(folder, PIXELS)
    (folder / "c0" / "\x1b[2J\nbad.png").write_bytes(b"x")


def a_pipe(folder: Path) -> None:
    write_class_folders(folder, PIXELS)
    os.mkfifo(folder / "c0" / "p.png")


DATA_SETS = (
    data("parquet", parquet([1, 2] * 6), "no sample has the label 0; there are 2 labels, 1 to 2: number them from 0"),
    data("parquet", parquet([0, 5] * 6), "no sample has the label 1, 2, 3, 4; there are 2 labels, 0 to 5"),
    data("parquet", parquet([-1] * 12), "a.parquet row 0: integers from 0"),
    data("parquet", parquet([0, 2**40] * 6), "number classes from 0 without gaps, or write names of classes (text)"),
    data("parquet", parquet([0] * 12), "at least 2 classes are needed"),
    data("parquet", parquet([2**63, 1] * 6, pa.uint64()), "a.parquet: a label is too large"),
    data("parquet", two_columns("image"), "a.parquet has 2 columns called 'image': rename one of them"),
    data("parquet", two_columns("label"), "a.parquet has 2 columns called 'label': rename one of them"),
    data("parquet", parquet([0, 1] * 6, name="eval-0.parquet"), "holds no .parquet files to train on, only"),
    data("parquet", nothing, "cannot be reached", path="x" * 5000),
    data("parquet", nothing, "data.path nothing://x/y cannot be reached", path="nothing://x/y"),
    data("folder", nothing, "is no folder; a folder of class folders is wanted", path="x" * 5000),
    data("folder", nothing, "data.path s3://b/x: class folders are read from a mounted", path="s3://b/x"),
    data("folder", nothing, "data.path ~nouser/x: ", path="~nouser/x"),
    data("folder", folders("val", "test"), "has folders named like splits of a data set: test (test), val"),
    data("folder", folders("Val", "TEST"), "has folders named like splits of a data set"),
    data("folder", folders("train", "train_set", "x"), "has folders named like splits"),
    data("folder", a_name_without_utf8, "c0 has no name in UTF-8: rename it"),
    data(
        "folder", a_name_with_a_line_feed, r"\x1b[2J\nbad.png' cannot be read as an image: no format that Pillow knows"
    ),
    data("folder", a_pipe, "left out, as no pictures: 1 no regular files", code=0),
)
