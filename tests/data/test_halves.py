"""A validation set of the user's own as the alpha half, from folders and from Parquet files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ray_darts.config import load_config
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import ImageSet, load_images
from ray_darts.errors import ConfigError, DataError
from tests.data.decoded import pixels_of_set
from tests.data.files import png, random_pixels, write_class_folders, write_parquet
from tests.data.settings import assert_shards_unite, image_config

TRAIN, VALIDATION = random_pixels(24), random_pixels(10, seed=1)
LABELS = [0, 1] * 12


def load(source: str, path: Path, **settings: object) -> ImageSet:
    plain = {"source": source, "path": str(path), "alpha": "validation", **settings}
    return load_images(Images.model_validate(plain), 10**9)


def in_parquet(folder: Path, validation: Path | None = None) -> Path:
    write_parquet(folder / "train-0.parquet", list(map(png, TRAIN)), LABELS)
    where = folder / "validation-0.parquet" if validation is None else validation
    write_parquet(where, list(map(png, VALIDATION)), LABELS[:10])
    return folder


def check(data: ImageSet) -> None:
    pixels = pixels_of_set(data)
    assert sorted(map(bytes, pixels[data.weight_rows])) == sorted(map(bytes, TRAIN))
    assert sorted(map(bytes, pixels[data.alpha_rows])) == sorted(map(bytes, VALIDATION))
    labels = dict(zip(map(bytes, pixels), data.labels.tolist(), strict=True))
    for expected, label in (*zip(TRAIN, LABELS, strict=True), *zip(VALIDATION, LABELS, strict=False)):
        assert labels[bytes(expected)] == label


def test_parquet_files_of_the_validation_split_are_the_alpha_half(tmp_path: Path) -> None:
    data = load("parquet", in_parquet(tmp_path))
    check(data)
    notes = data.facts.description.notes
    assert f"alpha half: 10 samples of the validation split in {tmp_path} (data.alpha)" in notes
    assert not any("left out" in note for note in notes)
    left_out = load("parquet", tmp_path, alpha="split").facts.description.notes
    assert "files left out (1): validation-0.parquet (validation)" in left_out
    assert data.digests != load("parquet", tmp_path, alpha="split").digests


@pytest.mark.parametrize("name", ["val", "Validation", "dev"])
def test_a_folder_of_the_validation_split_is_the_alpha_half(tmp_path: Path, name: str) -> None:
    write_class_folders(tmp_path / "train", TRAIN)
    write_class_folders(tmp_path / name, VALIDATION)
    write_class_folders(tmp_path / "test", random_pixels(4, seed=2))
    data = load("folder", tmp_path)
    check(data)
    assert "folders left out (1): test (test)" in data.facts.description.notes


def test_a_validation_set_elsewhere_is_named(tmp_path: Path) -> None:
    data = load(
        "parquet", in_parquet(tmp_path / "a", tmp_path / "b.parquet"), validation_path=str(tmp_path / "b.parquet")
    )
    check(data)
    write_class_folders(tmp_path / "c", TRAIN)
    write_class_folders(tmp_path / "d", VALIDATION)
    check(load("folder", tmp_path / "c", validation_path=str(tmp_path / "d")))


def test_the_fraction_and_the_test_set_are_of_the_training_set(tmp_path: Path) -> None:
    data = load("parquet", in_parquet(tmp_path), fraction=0.5, test_fraction=0.25)
    assert (len(data.weight_rows), len(data.alpha_rows)) == (8, 10), (
        "of 24 samples 6 for the test, then 4 of each class"
    )
    assert "6 of 24 samples held out as the test set (data.test_fraction)" in data.facts.description.notes


def test_mean_and_deviation_are_those_of_the_training_set(tmp_path: Path) -> None:
    data = load("parquet", in_parquet(tmp_path))
    np.testing.assert_allclose(data.mean, TRAIN.mean(axis=(0, 1, 2)) / 255, rtol=0, atol=1e-12)


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_batches_of_all_ranks_are_the_batch_of_one(tmp_path: Path, world_size: int) -> None:
    config = image_config(5, source="parquet", path=str(in_parquet(tmp_path)), alpha="validation")
    data = config.data.load(10**9).streams(config.search, 0)
    assert data.num_steps(0) == 4
    for index in range(4):
        assert_shards_unite(data, 1, index, world_size)


def test_classes_of_the_validation_set_have_the_numbers_of_the_training_set(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", list(map(png, TRAIN)), ["cat", "dog"] * 12, label_type=pa.string())
    write_parquet(tmp_path / "val.parquet", list(map(png, VALIDATION)), ["dog"] * 10, label_type=pa.string())
    data = load("parquet", tmp_path)
    assert data.labels.numpy()[data.alpha_rows].tolist() == [1] * 10
    warning = "2 of 2 classes have fewer than 10 samples in a half (weight half + alpha half): cat 12 + 0, dog 12 + 10"
    assert data.facts.description.warnings == (warning.replace("2 of 2", "1 of 2").replace(", dog 12 + 10", ""),)
    write_parquet(tmp_path / "val.parquet", list(map(png, VALIDATION)), ["eel"] * 10, label_type=pa.string())
    with pytest.raises(DataError, match=r"val\.parquet row 0 has label 'eel', classes are cat, dog"):
        load("parquet", tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.alpha=validation"], "source 'digits' has no validation set"),
        (["data.source=folder", "data.path=/x", "data.validation_path=/y"], 'no effect with alpha = "split"'),
        (
            ["data.source=folder", "data.path=/x", "data.alpha=validation", "data.alpha_fraction=0.3"],
            "alpha_fraction has no effect",
        ),
    ],
)
def test_settings_without_effect_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("digits", overrides=["data.test_fraction=0", *settings])


def test_a_missing_validation_set_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", list(map(png, TRAIN)), LABELS)
    with pytest.raises(DataError, match=r"no validation split lies in .*: set data\.validation_path"):
        load("parquet", tmp_path)
    write_class_folders(tmp_path / "c", TRAIN)
    with pytest.raises(DataError, match="no validation split lies in"):
        load("folder", tmp_path / "c")
