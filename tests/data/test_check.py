"""What reading a whole data set finds: every figure of a folder and of Parquet files made for it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ray_darts.data.images.dataset import Images
from ray_darts.data.text.dataset import Text
from ray_darts.errors import DataError
from ray_darts.protocols.dataset import DataReport
from tests.data.files import png, random_pixels, write_class_folders, write_parquet

PIXELS = random_pixels(40)


def check(path: Path, source: str = "folder", **settings: object) -> tuple[DataReport, list[tuple[int, int]]]:
    """The report, and the calls of its progress."""
    calls: list[tuple[int, int]] = []
    images = Images.model_validate({"source": source, "path": str(path), **settings})
    return images.check(lambda done, total: calls.append((done, total))), calls


def test_every_figure_of_a_folder(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path, PIXELS)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(random_pixels(1, 16, seed=1)[0]).save(folder / "c0" / "turned.jpg", exif=exif)
    Image.new("RGBA", (20, 10), (1, 2, 3, 0)).save(folder / "c1" / "transparent.png")
    (folder / "c1" / "short.png").write_bytes(png(PIXELS[0])[:60])
    (folder / "c1" / "copy.png").write_bytes(png(PIXELS[0]))
    (folder / "c0" / "Thumbs.db").write_bytes(b"x")
    report, calls = check(folder, image_size=8)
    figures = report.figures
    assert figures["classes"] == {"c0": [11, 10], "c1": [11, 12]}
    assert figures["sizes"] == {"8x8": 42, "16x16": 1, "20x10": 1}, "one that is cut short has a size, too"
    assert figures["kinds"] == {"PNG RGB": 42, "JPEG RGB": 1, "PNG RGBA": 1}
    assert (figures["turned"], figures["transparent"]) == (1, 1)
    assert (figures["copies"], figures["copies_with_another_label"]) == (1, 1)
    assert report.num_problems == 1
    assert "short.png cannot be read as an image" in report.problems[0]
    assert figures["memory_bytes"] == 44 * 8 * 8 * 3
    rows = dict(report.rows)
    assert rows["sizes"] == "3 in all, 8x8 to 16x16; 42 of 44 are 8x8 pixels"
    assert "c0/0000.png = " in rows["copies"]
    assert "1 with another label" in rows["copies"].replace("one with", "with")
    assert "left out, as no pictures: 1 .db" in [text for _, text in report.rows]
    assert calls == [(done, 44) for done in range(1, 45)]


def test_copies_in_the_other_half_are_counted(tmp_path: Path) -> None:
    encoded: list[bytes | None] = [png(picture) for picture in PIXELS]
    write_parquet(tmp_path / "train.parquet", encoded, [0, 1] * 20)
    write_parquet(tmp_path / "validation.parquet", encoded[:6], [0, 1] * 3)
    report, _ = check(tmp_path, "parquet", alpha="validation")
    figures = report.figures
    assert (figures["copies"], figures["copies_in_both_halves"], figures["copies_with_another_label"]) == (6, 6, 0)
    assert (figures["weight_half"], figures["alpha_half"]) == (40, 6)


def test_every_copy_of_a_group_is_compared_with_all_of_it(tmp_path: Path) -> None:
    encoded: list[bytes | None] = [png(picture) for picture in PIXELS]
    write_parquet(tmp_path / "train.parquet", encoded, [0, 1] * 20)
    write_parquet(tmp_path / "validation.parquet", [encoded[0]] * 10, [0, 1] * 5)
    figures = check(tmp_path, "parquet", alpha="validation")[0].figures
    assert (figures["copies"], figures["copies_in_both_halves"], figures["copies_with_another_label"]) == (10, 10, 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weights": [1.0, 2.0, 3.0]}, "class_weights has 3 weights"),
        ({"mean": [0.5], "std": [0.5]}, "data.mean has 1 values"),
        ({"test_fraction": 0.1}, "has a test set of its own"),
    ],
)
def test_settings_that_a_search_would_refuse_are_problems(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    write_class_folders(tmp_path / "train", PIXELS)
    write_class_folders(tmp_path / "test", PIXELS)
    report, _ = check(tmp_path, "folder", **settings)
    assert report.is_refused
    assert message in report.problems[0]
    assert not check(tmp_path)[0].is_refused


def test_a_flat_data_set_and_a_class_that_is_skipped_are_refused(tmp_path: Path) -> None:
    flat = write_class_folders(tmp_path / "flat", np.zeros((8, 8, 8, 3), np.uint8))
    assert "all 8 pictures are one flat colour" in check(flat)[0].problems[0]
    folder = write_class_folders(tmp_path / "bad", PIXELS)
    for file in (folder / "c1").iterdir():
        file.write_bytes(b"no picture")
    report, _ = check(folder, on_error="skip")
    assert report.is_refused
    assert report.num_problems == 21
    assert report.figures["classes"] == {"c0": [10, 10], "c1": [0, 0]}


def test_nothing_but_bad_pictures_is_counted_once_each(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path, PIXELS[:12])
    for file in folder.rglob("*.png"):
        file.write_bytes(b"no picture")
    report, _ = check(folder)
    assert report.num_problems == 12
    assert all("cannot be read as an image" in problem for problem in report.problems)


def test_a_damaged_row_group_is_a_problem_among_what_could_be_read(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", [png(picture) for picture in PIXELS], [0, 1] * 20)
    content = bytearray(file.read_bytes())
    content[4:60] = b"\xff" * 56
    file.write_bytes(content)
    report, _ = check(tmp_path, "parquet", image_size=8, channels=3)
    assert report.is_refused
    assert "row group 0: column 'image' cannot be read" in report.problems[0]


def test_what_a_search_would_refuse_is_a_problem_and_the_rest_is_still_read(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path, PIXELS)
    (folder / "c2").mkdir()
    (folder / "c2" / "alone.png").write_bytes(png(PIXELS[0]))
    Image.new("RGB", (9, 9), "red").save(folder / "c0" / "larger.png")
    report, _ = check(folder)
    assert report.num_problems == 2
    assert "class 2 has no sample in the alpha half" in report.problems[0]
    assert "larger.png is 9x9 pixels, the first image 8x8; set data.image_size" in report.problems[1]
    assert report.figures["kinds"] == {"PNG RGB": 42}


def test_pictures_without_a_common_shape_are_read_at_any(tmp_path: Path) -> None:
    wide = np.zeros((8, 8, 9, 3), np.uint8)
    wide[:, 0] = 255
    folder = write_class_folders(tmp_path, wide)
    report, _ = check(folder)
    assert report.is_refused
    assert report.problems == (
        f"{folder}/c0/0000.png is 9x8 pixels, not square; set data.image_size to fit all images",
    )
    assert report.figures["copies"] == 7


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        check(tmp_path / "nowhere")


def test_grey_of_sixteen_bits_and_palettes_are_named_by_their_modes(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path, random_pixels(8, channels=1))
    for number, image in enumerate((Image.fromarray(np.zeros((8, 8), np.uint16)), Image.new("P", (8, 8)))):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        (folder / "c0" / f"other{number}.png").write_bytes(buffer.getvalue())
    report, _ = check(folder, channels=1)
    assert report.figures["kinds"] == {"PNG L": 8, "PNG I;16": 1, "PNG P": 1}
    assert report.num_problems == 0


def test_a_text_is_counted(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a b a\nc\n")
    (tmp_path / "valid.txt").write_text("a d\n")
    report = Text.model_validate({"source": "files", "path": str(tmp_path)}).check(lambda done, total: None)
    assert report.figures == {
        "train_words": 6,
        "validation_words": 3,
        "unknown_words": {"train": 0, "validation": 1},
        "vocabulary": 5,
    }
