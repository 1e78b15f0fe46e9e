"""A share of a source that is its test set: drawn by class, and left out of searches and trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_darts.config import load_config, load_training_config
from ray_darts.data.batch import generator
from ray_darts.data.images.sources import digits
from ray_darts.data.images.streams import ImageSet
from ray_darts.data.open import open_data
from ray_darts.data.streams import permutation
from ray_darts.errors import ConfigError, DataError
from tests.data.decoded import pixels_of_set
from tests.data.files import write_class_folders
from tests.data.held_out import TRAIN, in_folders, in_parquet, load, must_open, opened, pixels_of


def test_a_share_of_each_class_of_the_digits_is_held_out() -> None:
    whole, data = load("digits"), load("digits", test_fraction=0.2)
    assert opened(whole) is None
    test = must_open(data, 100)
    labels = digits().labels
    drawn = [
        rows[permutation(generator(0, "test", label), len(rows))[: round(0.2 * len(rows))]]
        for label, rows in ((label, np.flatnonzero(labels == label)) for label in range(10))
    ]
    held_out = np.sort(np.concatenate(drawn))
    assert test.num_samples == len(held_out) == 359
    assert np.array_equal(pixels_of(test), pixels_of_set(whole)[held_out])
    assert test.images.labels.tolist() == labels[held_out].tolist()
    others = np.setdiff1d(np.arange(len(labels)), held_out)
    assert np.array_equal(pixels_of_set(data), pixels_of_set(whole)[others])
    assert len(data.weight_rows) + len(data.alpha_rows) == 1797 - 359
    note = "359 of 1797 samples held out as the test set (data.test_fraction)"
    assert note in data.facts.description.notes
    assert not any("held out" in line for line in whole.facts.description.notes)


OTHER_SHARES: tuple[dict[str, Any], ...] = ({}, {"fraction": 0.3}, {"alpha_fraction": 0.1})


def test_the_held_out_samples_depend_on_the_split_seed_alone() -> None:
    digests = {must_open(load("digits", test_fraction=0.2, **more)).digest for more in OTHER_SHARES}
    assert len(digests) == 1
    assert must_open(load("digits", test_fraction=0.2, split_seed=1)).digest not in digests


def test_without_a_test_fraction_the_split_is_what_it_was() -> None:
    assert load("digits").digests == {
        "data": "bbe74ba6220adbe5995dc1c231e80955bb564b15bdd32c6aa732efb403fa14f7",
        "split": "61ae67b1359cb8db77f77698308c40802eac4bf9fe6011edf130dc5d20f18081",
    }


def test_a_search_leaves_the_test_set_out_too() -> None:
    config = load_config("digits", overrides=["data.test_fraction=0.2"])
    assert "359 of 1797" in " ".join(open_data(config, 0).facts.description.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"source": "cifar10", "test_fraction": 0.1},
            "source 'cifar10' has a test set of its own: leave",
        ),
        (
            {"source": "folder", "path": "x", "test_path": "/y", "test_fraction": 0.1},
            "test_path /y names a test",
        ),
        ({"source": "cifar10", "test_path": "/y"}, "source 'cifar10' takes no test_path: leave it out"),
        ({"source": "digits", "test_path": "/y"}, "source 'digits' takes no test_path: leave it out"),
    ],
)
def test_settings_of_two_test_sets_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_training_config(settings={"data": {"kind": "images", **settings}})


@pytest.mark.parametrize(("source", "build"), [("folder", in_folders), ("parquet", in_parquet)])
def test_a_test_fraction_beside_test_files_is_refused(
    tmp_path: Path, source: str, build: Callable[[Path], ImageSet]
) -> None:
    build(tmp_path)
    with pytest.raises(DataError, match=r"has a test set of its own \(.*test.*\): leave data\.test_fraction = 0\.2"):
        load(source, tmp_path, test_fraction=0.2)


def test_files_without_a_test_split_can_hold_a_share_out(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train", TRAIN)
    data = load("folder", tmp_path, test_fraction=0.34)
    test = must_open(data)
    both = np.concatenate([pixels_of_set(data), pixels_of(test)])
    assert sorted(picture.tobytes() for picture in both) == sorted(picture.tobytes() for picture in TRAIN)
    assert test.images.labels.tolist() == [0, 0, 1, 1]


def test_a_class_without_a_held_out_sample_is_named(tmp_path: Path) -> None:
    write_class_folders(tmp_path, TRAIN)
    with pytest.raises(DataError, match=r"class 0 has no sample in the test set: data\.test_fraction = 0\.05 of its 6"):
        load("folder", tmp_path, test_fraction=0.05)
