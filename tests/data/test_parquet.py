from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import ImageSet, load_images
from ray_darts.data.images.test_sources import open_test_source
from ray_darts.errors import DataError
from tests.data.decoded import pixels_of_set
from tests.data.files import png, random_pixels, write_parquet

PIXELS = random_pixels(10)
ENCODED: list[bytes | None] = [png(picture) for picture in PIXELS]
LABELS: list[int | None] = [0, 1] * 5


def load(path: Path | str, **settings: object) -> ImageSet:
    return load_images(Images.model_validate({"source": "parquet", "path": str(path), **settings}), 10**9)


@pytest.mark.parametrize("struct", [False, True])
@pytest.mark.parametrize("label_type", [pa.int64(), pa.uint8()])
def test_both_layouts_are_read(tmp_path: Path, struct: bool, label_type: pa.DataType) -> None:
    file = write_parquet(tmp_path / "a.parquet", ENCODED, LABELS, struct, label_type)
    for path in (tmp_path, file, tmp_path.as_uri()):
        data = load(path)
        assert np.array_equal(pixels_of_set(data), PIXELS)
        assert data.labels.tolist() == LABELS


def test_files_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    write_parquet(tmp_path / "b" / "0.parquet", ENCODED[7:], LABELS[7:])
    write_parquet(tmp_path / "a" / "1.parquet", ENCODED[4:7], LABELS[4:7])
    write_parquet(tmp_path / "a" / "0.parquet", ENCODED[:4], LABELS[:4])
    assert np.array_equal(pixels_of_set(load(tmp_path)), PIXELS)


def test_a_fraction_reads_its_rows_only(tmp_path: Path) -> None:
    encoded = [*ENCODED, *([b"never looked at"] * 10)]
    write_parquet(tmp_path / "a.parquet", ENCODED * 4, LABELS * 4)
    assert len(load(tmp_path, fraction=0.25).labels) == 10
    write_parquet(tmp_path / "a.parquet", encoded, LABELS * 2)
    with pytest.raises(DataError, match=r"a\.parquet row 1\d cannot be read as an image"):
        load(tmp_path)


@pytest.mark.parametrize("held_out", ["test-00000.parquet", "validation.parquet", "val/0.parquet"])
def test_held_out_files_are_left_alone(tmp_path: Path, held_out: str) -> None:
    write_parquet(tmp_path / held_out, [b"never looked at"], [0])
    with pytest.raises(DataError, match=r"no \.parquet files to train on, only"):
        load(tmp_path)
    write_parquet(tmp_path / "images.parquet", ENCODED, LABELS)
    assert len(load(tmp_path).labels) == 10
    write_parquet(tmp_path / "data" / "train-00000.parquet", ENCODED[:8], LABELS[:8])
    assert len(load(tmp_path).labels) == 8


@pytest.mark.parametrize(
    ("train", "others"),
    [
        ("cifar10-train.parquet", ["cifar10-test.parquet"]),
        ("TRAIN/0.parquet", ["TEST/0.parquet", "README/more.parquet"]),
        ("mnist_train.parquet", ["mnist_test.parquet"]),
        ("valley.parquet", ["default-validation-0.parquet"]),
        ("images.parquet", ["Dev.parquet"]),
    ],
)
def test_one_split_is_read_and_it_is_said_which(tmp_path: Path, train: str, others: list[str]) -> None:
    write_parquet(tmp_path / train, ENCODED, LABELS)
    for name in [*others, "_cache.parquet"]:
        write_parquet(tmp_path / name, [b"never looked at"], [0])
    data = load(tmp_path)
    assert np.array_equal(pixels_of_set(data), PIXELS)
    taken, left_out, hidden, _ = data.facts.description.notes
    assert taken == f"files taken (1): {train}"
    assert left_out.startswith(f"files left out ({len(others)}): ")
    assert all(f"{name} (" in left_out for name in others)
    assert hidden == "hidden files left out (1): _cache.parquet"


def with_hub_names(file: Path, names: object) -> Path:
    """A Parquet file whose schema's metadata names the labels as hubs do."""
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    table = pq.read_table(write_parquet(file, ENCODED, LABELS))
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), file)
    return file


def test_classes_have_the_names_of_the_hub(tmp_path: Path) -> None:
    file = with_hub_names(tmp_path / "a.parquet", ["cat", "dog"])
    about = load(file).facts.description
    assert (about.classes, about.samples) == (("cat", "dog"), (5, 5))
    assert about.notes == ("2 classes, 6 + 4 samples (weight half + alpha half): cat 3 + 2, dog 3 + 2",)
    assert load(file, classes=["cat", "dog"]).facts.description.classes == ("cat", "dog")
    assert load(file, classes=["Katze", "Hund"]).facts.description.classes == ("Katze", "Hund")
    with pytest.raises(DataError, match=r"another order than the data does: labels 0 to 1 there are cat, dog"):
        load(file, classes=["dog", "cat"])


def test_files_whose_labels_mean_other_classes_are_refused_and_named(tmp_path: Path) -> None:
    with_hub_names(tmp_path / "a.parquet", ["cat", "dog"])
    with_hub_names(tmp_path / "b.parquet", None)
    with_hub_names(tmp_path / "c.parquet", ["cat", "dog", "eel"])
    assert load(tmp_path).facts.description.classes == ("cat", "dog")
    with_hub_names(tmp_path / "d.parquet", ["cat", "Dog"])
    with pytest.raises(DataError, match=r"d\.parquet calls label 1 'Dog', a file before it 'dog'"):
        load(tmp_path)
    assert load(tmp_path, classes=["a", "b"]).facts.description.classes == ("a", "b")


@pytest.mark.parametrize("names", [None, ["only one"], "text", [1, 2]])
def test_classes_without_names_are_named_by_their_labels(tmp_path: Path, names: object) -> None:
    assert load(with_hub_names(tmp_path / "a.parquet", names)).facts.description.classes == ("0", "1")


def test_named_classes_bound_the_labels(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ENCODED, [0, 2] * 5)
    with pytest.raises(DataError, match=r"a\.parquet row 1 has label 2, wanted are 0 to 1 .* see .*data\.classes"):
        load(tmp_path, classes=["cat", "dog"])


def test_columns_have_the_names_that_are_given(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ENCODED, LABELS, columns=("img", "fine_label"))
    with pytest.raises(DataError, match=r"has no column .image., only img, fine_label; see data\.image_column"):
        load(tmp_path)
    assert len(load(tmp_path, image_column="img", label_column="fine_label").labels) == 10


@pytest.mark.parametrize(
    ("encoded", "labels", "message"),
    [
        ([*ENCODED[:4], b"\x89PNG broken", *ENCODED[5:]], LABELS, r"a\.parquet row 4 cannot be read as an image"),
        ([*ENCODED[:4], None, *ENCODED[5:]], LABELS, r"a\.parquet row 4 has no image bytes"),
        (ENCODED, [*LABELS[:4], None, *LABELS[5:]], r"a\.parquet row 4 has no label"),
        (ENCODED, [*LABELS[:4], -1, *LABELS[5:]], r"a\.parquet row 4 has label -1, wanted are 0 to 1"),
        (ENCODED, [0] * 10, "all labels are 0"),
        ([], [], "the data set has no samples"),
    ],
)
@pytest.mark.parametrize("struct", [False, True])
def test_what_is_wrong_is_named_with_its_row(
    tmp_path: Path, encoded: list[bytes | None], labels: list[int | None], message: str, struct: bool
) -> None:
    write_parquet(tmp_path / "a.parquet", encoded, labels, struct)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_the_row_is_counted_within_its_file(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ENCODED, LABELS)
    write_parquet(tmp_path / "b.parquet", [*ENCODED[:7], b"broken"], LABELS[:8])
    with pytest.raises(DataError, match=r"b\.parquet row 7 cannot be read"):
        load(tmp_path)
    write_parquet(tmp_path / "b.parquet", ENCODED[:8], [*LABELS[:7], 5])
    with pytest.raises(DataError, match=r"b\.parquet row 7 has label 5"):
        load(tmp_path, num_classes=2)


def test_columns_of_another_type_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ENCODED, [0.5] * 10, label_type=pa.float64())
    with pytest.raises(DataError, match="label column 'label' is double; integers from 0, or names of classes"):
        load(tmp_path)
    with pytest.raises(DataError, match="image column 'label' is double; encoded bytes"):
        load(tmp_path, image_column="label")


NAMES: list[str] = ["dog", "cat", "eel"] * 3 + ["cat"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_labels_may_be_names_of_classes(tmp_path: Path, kind: pa.DataType) -> None:
    write_parquet(tmp_path / "a.parquet", ENCODED[:6], NAMES[:6], label_type=kind)
    write_parquet(tmp_path / "b.parquet", ENCODED[6:], NAMES[6:], label_type=kind)
    data = load(tmp_path)
    assert data.facts.description.classes == ("cat", "dog", "eel")
    assert data.labels.tolist() == [1, 0, 2] * 3 + [0]
    ordered = load(tmp_path, classes=["eel", "dog", "cat"])
    assert ordered.facts.description.classes == ("eel", "dog", "cat")
    assert ordered.labels.tolist() == [1, 2, 0] * 3 + [2]
    assert ordered.digests["data"] != data.digests["data"]


def test_names_that_are_numbers_are_sorted_by_their_value(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ENCODED, ["10", "9"] * 5, label_type=pa.string())
    assert load(tmp_path).facts.description.classes == ("9", "10")


@pytest.mark.parametrize("kind", [pa.bool_(), pa.dictionary(pa.int8(), pa.int16()), pa.uint64()])
def test_labels_of_other_types_of_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    labels = list(map(bool, LABELS)) if kind == pa.bool_() else LABELS
    write_parquet(tmp_path / "a.parquet", ENCODED, labels, label_type=kind)
    assert load(tmp_path).labels.tolist() == LABELS


@pytest.mark.parametrize(
    ("labels", "kind", "settings", "message"),
    [
        (NAMES, pa.string(), {"classes": ["cat", "dog"]}, r"row 2 has label 'eel', classes are cat, dog: see data\.cl"),
        ([*NAMES[:9], ""], pa.string(), {}, "row 9 has an empty label"),
        ([*NAMES[:9], None], pa.string(), {}, "row 9 has no label"),
        ([[0, 1]] * 10, pa.list_(pa.int64()), {}, r"list<.*int64>: several labels a picture are not supported"),
        ([None] * 10, pa.null(), {}, "row 0 has no label"),
        ([2**63] * 10, pa.uint64(), {}, "a label is too large"),
        ([b"x"] * 10, pa.binary(), {}, "is binary; integers from 0, or names of classes"),
    ],
)
def test_labels_that_are_none_are_refused_in_one_line(
    tmp_path: Path, labels: list[object], kind: pa.DataType, settings: dict[str, object], message: str
) -> None:
    write_parquet(tmp_path / "a.parquet", ENCODED, labels, label_type=kind)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, **settings)
    assert "\n" not in str(caught.value)


def test_files_that_name_classes_beside_files_that_number_them_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ENCODED, NAMES, label_type=pa.string())
    write_parquet(tmp_path / "b.parquet", ENCODED, LABELS)
    with pytest.raises(DataError, match=r"a\.parquet names classes, .*b\.parquet numbers them"):
        load(tmp_path)


def test_numbers_beside_training_labels_that_are_names_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ENCODED, ["1", "2", "3"] * 3 + ["1"], label_type=pa.string())
    write_parquet(tmp_path / "test.parquet", ENCODED[:2], [1, 2])
    settings = Images.model_validate({"source": "parquet", "path": str(tmp_path)})
    with pytest.raises(
        DataError, match=r"training files name classes, the test files number them .*test\.parquet row 0"
    ):
        open_test_source(settings, ("1", "2", "3"))


def test_labels_that_are_no_text_and_numbers_of_any_length(tmp_path: Path) -> None:
    kind = pa.string()
    bad = pa.array([b"caf\xe9", b"tea"] * 5, pa.binary()).view(kind)
    table = pa.table({"image": pa.array(ENCODED, pa.binary()), "label": bad})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet has labels that are no UTF-8 text"):
        load(tmp_path)
    long = "9" * 5000
    write_parquet(tmp_path / "a.parquet", ENCODED, [long, "10"] * 5, label_type=kind)
    assert load(tmp_path).facts.description.classes == ("10", long)


def test_a_column_of_different_texts_names_no_classes(tmp_path: Path) -> None:
    names = [f"file {number}" for number in range(1100)]
    write_parquet(tmp_path / "a.parquet", [ENCODED[0]] * 1100, names, label_type=pa.string())
    with pytest.raises(DataError, match=r"1100 different labels in 1100 rows name no classes: see data\.label_column"):
        load(tmp_path)


def test_a_test_set_has_the_numbers_of_the_training_set(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ENCODED, NAMES, label_type=pa.string())
    write_parquet(tmp_path / "test.parquet", ENCODED[:2], ["eel", "dog"], label_type=pa.string())
    settings = Images.model_validate({"source": "parquet", "path": str(tmp_path)})
    found = open_test_source(settings, ("cat", "dog", "eel"))
    assert found is not None
    assert found[0].labels.tolist() == [2, 1]
    write_parquet(tmp_path / "test.parquet", ENCODED[:2], ["eel", "fox"], label_type=pa.string())
    with pytest.raises(DataError, match=r"row 1 has label 'fox', classes are cat, dog, eel"):
        open_test_source(settings, ("cat", "dog", "eel"))


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", ENCODED, LABELS)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as a Parquet file"):
        load(tmp_path)


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", ENCODED, LABELS)
    content = bytearray(file.read_bytes())
    content[4:60] = b"\xff" * 56
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet row group 0: column 'image' cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", r"nowhere holds no \.parquet files"),
        ("nothing://bucket/key", "nothing://bucket/key cannot be reached"),
    ],
)
def test_a_path_that_leads_nowhere_is_reported(path: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(path)
