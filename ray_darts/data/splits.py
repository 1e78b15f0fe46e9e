"""Recognises splits (train, validation, test) in the names of files and folders, and sorts names naturally.

Knows names only: it reads no file and no folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_WORDS = {
    TRAIN: ("train", "training", "trainset"),
    VALIDATION: ("val", "valid", "validation", "dev", "devel", "development", "eval", "evaluation", "valset"),
    TEST: ("test", "testing", "testset", "holdout", "heldout"),
}
_SPLIT_OF_WORD = {word: split for split, words in _WORDS.items() for word in words}
_FILLERS = {"set", "split", "data", "dataset", "images", "image", "imgs", "img", "samples", "of"}
"""Words beside a split word that leave a folder's name the name of a split: `train_set`, `test-images`."""


def natural_key(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """Sort key in which numbers, of any length, count by their value (1, 2, 10) and all other text as in `sorted`."""
    pieces = re.split(r"([0-9]+)", name)
    return [_by_value(piece) if position % 2 else piece for position, piece in enumerate(pieces)], name


def _by_value(digits: str) -> tuple[int, str]:
    significant = digits.lstrip("0")
    return len(significant), significant


def split_of(name: str) -> str | None:
    """The one split that `name` mentions as a whole word, in any case; None for no split, or for several.

    Words end at digits, at marks and before a capital letter: `cifar10-train`, `TEST`, `default-validation-0`,
    `trainSet` and `val2017` are splits, `valley` and `contest` are not.
    """
    splits = {_SPLIT_OF_WORD[word] for word in _words(name) if word in _SPLIT_OF_WORD}
    return splits.pop() if len(splits) == 1 else None


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """{folder: split} of those of these sibling folders that are splits of a data set, not classes.

    A folder is a split when its name says nothing else (`Train`, `test_set`), when a sibling has the same name with
    another split (`mnist_train`, `mnist_test`), or when all siblings name splits. `bullet_train` among other classes
    is a class.
    """
    siblings = list(names)
    found = {name: split for name in siblings if (split := split_of(name)) is not None}
    if len(found) == len(siblings) and (len(siblings) == 1 or len(set(found.values())) > 1):
        return found
    splits_of_rest: dict[tuple[str, ...], set[str]] = {}
    for name, split in found.items():
        splits_of_rest.setdefault(_rest(name), set()).add(split)
    return {
        name: split
        for name, split in found.items()
        if set(_rest(name)) <= _FILLERS or len(splits_of_rest[_rest(name)]) > 1
    }


def choose_training(parts: Mapping[str, tuple[str, ...]]) -> tuple[list[str], dict[str, str]]:
    """Choose the files to train on: those of a train split if there are any, else those that name no split.

    `parts`: {file: its folders and its name}. The part nearest to the file that names a split decides. Returns the
    chosen files in the given order, and {file left out: its split, or why}.
    """
    splits = {file: _split_of_file(names) for file, names in parts.items()}
    wanted = TRAIN if TRAIN in splits.values() else None
    chosen = [file for file, split in splits.items() if split == wanted]
    return chosen, {file: split or "no split" for file, split in splits.items() if split != wanted}


def files_of_split(parts: Mapping[str, tuple[str, ...]], split: str | None) -> list[str]:
    """The files that name `split`, as `choose_training` reads names; with None those that name no split."""
    return [file for file, names in parts.items() if _split_of_file(names) == split]


def _split_of_file(names: tuple[str, ...]) -> str | None:
    *folders, file = names
    stem = file.rpartition(".")[0] or file
    return next((split for name in (stem, *reversed(folders)) if (split := split_of(name)) is not None), None)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _rest(name: str) -> tuple[str, ...]:
    """The words of `name` without its split words."""
    return tuple(word for word in _words(name) if word not in _SPLIT_OF_WORD)
