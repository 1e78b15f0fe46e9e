"""The test sets of images: where they lie, how they are checked, and what their batches hold."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ray_darts.errors import DataError
from tests.data.decoded import pixels_of_set
from tests.data.files import png, random_pixels, write_cifar10, write_class_folders, write_parquet
from tests.data.held_out import GARBAGE, TEST, TRAIN, in_folders, in_parquet, load, must_open, opened, pixels_of
from tests.data.settings import ALONE, CPU, assert_union, shards


def test_the_test_folder_beside_the_train_folder_is_the_test_set(tmp_path: Path) -> None:
    test = must_open(in_folders(tmp_path))
    assert test.num_samples == 7
    assert test.images.labels.tolist() == [0] * 4 + [1] * 3
    assert np.array_equal(pixels_of(test), np.concatenate([TEST[0::2], TEST[1::2]]))


def test_parquet_files_of_the_test_split_are_the_test_set(tmp_path: Path) -> None:
    test = must_open(in_parquet(tmp_path))
    assert test.images.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert np.array_equal(pixels_of(test), TEST)


def test_cifar10_has_its_own_test_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = random_pixels(40, size=32), random_pixels(10, size=32, seed=1)
    labels = [number % 10 for number in range(40)]
    write_cifar10(tmp_path, (train, labels), (test, labels[:10]), monkeypatch)
    data = load("cifar10", tmp_path)
    assert np.array_equal(pixels_of_set(data), train)
    found = must_open(data)
    assert np.array_equal(pixels_of(found), test)
    assert found.images.labels.tolist() == labels[:10]


def test_a_damaged_test_set_of_cifar10_is_not_looked_at_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [number % 10 for number in range(40)]
    write_cifar10(tmp_path, (random_pixels(40, size=32), labels), (random_pixels(10), labels[:10]), monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(GARBAGE)
    data = load("cifar10", tmp_path)
    with pytest.raises(DataError, match=r"CIFAR-10 is neither in .* nor could it be downloaded"):
        opened(data)


def test_the_batches_hold_all_once_in_order_normalised_as_the_training_images(tmp_path: Path) -> None:
    data = in_folders(tmp_path)
    test = must_open(data)
    batches = list(test.batches(ALONE, CPU))
    assert [batch.num_samples for batch in batches] == [3, 3, 1]
    assert torch.cat([batch.targets for batch in batches]).tolist() == test.images.labels.tolist()
    images = torch.cat([batch.inputs for batch in batches]).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(images, (pixels_of(test) / 255 - data.mean) / data.std, rtol=0, atol=1e-12)
    for index, whole in enumerate(batches):
        assert_union(whole, [list(test.batches(shard, CPU))[index] for shard in shards(2)])
    assert [batch.num_samples for batch in test.batches(shards(2)[0], CPU)] == [1, 1, 0]


def test_the_digest_is_of_shape_pixels_and_labels(tmp_path: Path) -> None:
    test = must_open(in_folders(tmp_path))
    whole = hashlib.sha256(b"(7, 8, 8, 3)" + pixels_of(test).tobytes() + np.array([0] * 4 + [1] * 3, "<i8").tobytes())
    assert test.digest == whole.hexdigest()


def test_pictures_take_the_size_and_the_channels_of_the_training_images(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train", random_pixels(12, channels=1))
    write_class_folders(tmp_path / "test", random_pixels(4, channels=1, size=12))
    with pytest.raises(DataError, match=r"test/c0/0000\.png is 12x12 pixels, the first image 8x8"):
        opened(load("folder", tmp_path))
    assert pixels_of(must_open(load("folder", tmp_path, image_size=10))).shape == (4, 10, 10, 1)
    assert pixels_of(must_open(load("folder", tmp_path, image_size=10, channels=3))).shape == (4, 10, 10, 3)


def test_a_class_may_have_no_test_picture_and_every_test_folder_is_a_class(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train", TRAIN, 3)
    write_class_folders(tmp_path / "test", TEST[:1])
    (tmp_path / "test" / "c2").mkdir()
    data = load("folder", tmp_path)
    assert must_open(data).images.labels.tolist() == [0]
    write_class_folders(tmp_path / "test", TEST[:4], 4)
    with pytest.raises(DataError, match=r"test has folders that are no class of the training data: c3; classes are c0"):
        opened(data)


def test_a_folder_that_the_training_leaves_out_is_left_out_of_the_test(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train", TRAIN, 3)
    write_class_folders(tmp_path / "test", TEST[:6], 3)
    test = must_open(load("folder", tmp_path, classes=["c2", "c0"]))
    assert np.array_equal(pixels_of(test), TEST[[2, 5, 0, 3]])
    assert test.images.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("names", [("",), ("test", "train")])
def test_a_test_folder_elsewhere_is_named_by_test_path(tmp_path: Path, names: tuple[str, ...]) -> None:
    write_class_folders(tmp_path / "data", TRAIN)
    for name in names:
        write_class_folders(tmp_path / "other" / name, TEST if name != "train" else TRAIN)
    assert opened(load("folder", tmp_path / "data")) is None
    test = must_open(load("folder", tmp_path / "data", test_path=str(tmp_path / "other")))
    assert np.array_equal(pixels_of(test), np.concatenate([TEST[0::2], TEST[1::2]]))


@pytest.mark.parametrize("name", ["x.parquet", "test.parquet", "y/test/0.parquet"])
@pytest.mark.parametrize("whole", [True, False])
def test_test_files_elsewhere_are_named_by_test_path(tmp_path: Path, name: str, whole: bool) -> None:
    write_parquet(tmp_path / "data" / "a.parquet", [png(picture) for picture in TRAIN], [0, 1] * 6)
    file = write_parquet(tmp_path / "other" / name, [png(picture) for picture in TEST], [0, 1, 0, 1, 0, 1, 0])
    write_parquet(tmp_path / "other" / "train.parquet", [GARBAGE], [0])
    assert opened(load("parquet", tmp_path / "data")) is None
    place = file if whole else (tmp_path / "other").as_uri()
    assert np.array_equal(pixels_of(must_open(load("parquet", tmp_path / "data", test_path=str(place)))), TEST)


def test_a_test_path_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "data", TRAIN)
    write_parquet(tmp_path / "train.parquet", [png(picture) for picture in TRAIN], [0, 1] * 6)
    gone = str(tmp_path / "gone")
    for source, path, message in (
        ("folder", tmp_path / "data", r"data\.test_path .*gone is no folder"),
        ("parquet", tmp_path / "train.parquet", r"data\.test_path .*gone holds no \.parquet files"),
    ):
        data = load(source, path, test_path=gone)
        with pytest.raises(DataError, match=message):
            opened(data)


def test_test_labels_are_checked_as_training_labels_are(tmp_path: Path) -> None:
    data = in_parquet(tmp_path)
    write_parquet(tmp_path / "test-1.parquet", [png(picture) for picture in TEST[:2]], [1, 2])
    with pytest.raises(DataError, match=r"test-1\.parquet row 1 has label 2, wanted are 0 to 1"):
        opened(data)


def test_test_files_that_name_the_classes_otherwise_are_refused(tmp_path: Path) -> None:
    in_parquet(tmp_path)
    (tmp_path / "test-1.parquet").unlink()
    for file, names in (("train.parquet", ["cat", "dog"]), ("test-0.parquet", ["dog", "cat"])):
        features = {"label": {"names": names}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(pq.read_table(tmp_path / file).replace_schema_metadata(metadata), tmp_path / file)
    data = load("parquet", tmp_path)
    with pytest.raises(DataError, match="the test files call label 0 'dog', the training files 'cat'"):
        opened(data)
    must_open(load("parquet", tmp_path, classes=["Katze", "Hund"]))


def test_pictures_that_are_also_trained_on_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ray_darts.data"):
        opened(in_folders(tmp_path))
        assert not caplog.messages
        (tmp_path / "test" / "c0" / "copy.png").write_bytes(png(TRAIN[3]))
        (tmp_path / "test" / "c1" / "copy.png").write_bytes(png(TRAIN[3]))
        opened(load("folder", tmp_path))
    assert [message[:61] for message in caplog.messages] == [
        "2 of 9 test pictures are in the training data, too (equal pix"
    ]
