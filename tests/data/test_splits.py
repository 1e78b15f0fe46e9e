"""Which names are splits of a data set, and how names with numbers are sorted."""

from __future__ import annotations

import pytest

from ray_darts.data.splits import choose_training, natural_key, split_folders, split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("cifar10-train", "train"),
        ("mnist_train", "train"),
        ("TRAIN", "train"),
        ("trainSet", "train"),
        ("train2017", "train"),
        ("Training data", "train"),
        ("cifar10-test", "test"),
        ("TEST", "test"),
        ("test-00000-of-00001", "test"),
        ("default-validation-0", "validation"),
        ("Val", "validation"),
        ("dev.v2", "validation"),
        ("valley", None),
        ("contest", None),
        ("trainer", None),
        ("latest", None),
        ("0001", None),
        ("train_test_split", None),
    ],
)
def test_a_split_is_a_whole_word_in_any_case(name: str, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["Train", "Test"], ["Train", "Test"]),
        (["train", "test", "meta"], ["train", "test"]),
        (["mnist_train", "mnist_test"], ["mnist_train", "mnist_test"]),
        (["mnist_train", "mnist_test", "docs"], ["mnist_train", "mnist_test"]),
        (["images-train", "labelled test"], ["images-train", "labelled test"]),
        (["test_set", "cat"], ["test_set"]),
        (["bullet_train", "steam_train", "plane"], []),
        (["bullet_train", "steam_train"], []),
        (["test tube", "valley", "contest"], []),
        (["cat", "dog"], []),
        ([], []),
    ],
)
def test_folders_are_splits_where_their_names_say_nothing_else(names: list[str], splits: list[str]) -> None:
    assert list(split_folders(names)) == splits


def choice(*files: str) -> tuple[list[str], dict[str, str]]:
    return choose_training({file: tuple(file.split("/")) for file in files})


def test_training_files_are_taken_where_there_are_any() -> None:
    assert choice("cifar10-test.parquet", "cifar10-train.parquet", "extra.parquet") == (
        ["cifar10-train.parquet"],
        {"cifar10-test.parquet": "test", "extra.parquet": "no split"},
    )


def test_of_files_without_a_training_split_those_of_no_split_are_taken() -> None:
    assert choice("default-validation-0.parquet", "valley.parquet") == (
        ["valley.parquet"],
        {"default-validation-0.parquet": "validation"},
    )


def test_the_name_nearest_to_the_file_decides() -> None:
    assert choice("train/0.parquet", "train/test-0.parquet", "TEST/0.parquet", "test/train.parquet")[0] == [
        "train/0.parquet",
        "test/train.parquet",
    ]


def test_numbers_in_names_count_by_their_value() -> None:
    names = ["10", "2", "1", "11", "b2", "b10", "B3", "a", "01", "b"]
    assert sorted(names, key=natural_key) == ["01", "1", "2", "10", "11", "B3", "a", "b", "b2", "b10"]


def test_names_without_numbers_are_sorted_as_text() -> None:
    names = ["b", "a", "B", "a-b", "ab", "ä", "n-a"]
    assert sorted(names, key=natural_key) == sorted(names)
