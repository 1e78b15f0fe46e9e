"""Finds the test set of an image source: its own files, `data.test_path`, or the rows that `data.test_fraction` draws.

Lists names until a test set is opened; decodes nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.folders import FoldersToTest, choose_folder
from ray_darts.data.images.labels import check_labels
from ray_darts.data.images.parquet import SUFFIX, ParquetPictures
from ray_darts.data.images.sources import ImageSource, cifar10, cifar10_folder, open_source
from ray_darts.data.images.split import held_out_rows
from ray_darts.data.locations import list_files_to_test, list_test_files
from ray_darts.data.summary import listed
from ray_darts.errors import DataError


def check_test_fraction(settings: Images) -> None:
    """Raise DataError where `data.test_fraction` is given and test files lie beside the training files."""
    if settings.test_fraction == 0 or settings.path is None:
        return
    found: list[str] = []
    if settings.source == "folder" and "://" not in settings.path:
        found = [str(folder) for folder in choose_folder(Path(settings.path), settings.classes).test_folders]
    if settings.source == "parquet":
        found = list_test_files(settings.path, SUFFIX)[1]
    if found:
        raise DataError(
            f"data.path {settings.path} has a test set of its own ({listed(found)}): leave data.test_fraction = "
            f"{settings.test_fraction} out"
        )


def open_test_source(settings: Images, classes: tuple[str, ...]) -> tuple[ImageSource, NDArray[np.int64]] | None:
    """The source that holds the test set, with its labels read and checked, and the rows of the test set in it.

    `classes`: the names of the training's classes. None where the source has no test set. Raises: DataError.
    """
    numbered = settings.model_copy(update={"num_classes": len(classes)})
    if settings.test_fraction > 0:
        source = open_source(settings)
        check_labels(source, numbered)
        rows = held_out_rows(
            source.labels, len(classes), test_fraction=settings.test_fraction, split_seed=settings.split_seed
        )
        return source, rows
    found = _own_test_source(settings, classes)
    if found is None:
        return None
    if len(found.labels) == 0:
        raise DataError("the test set has no samples: set data.test_path, or training.test = false")
    check_labels(found, numbered)
    return found, np.arange(len(found.labels), dtype=np.int64)


def _own_test_source(settings: Images, classes: tuple[str, ...]) -> ImageSource | None:
    if settings.source == "cifar10":
        return cifar10(cifar10_folder(settings), test=True)
    if settings.source == "folder":
        return _folders(settings, classes)
    if settings.source == "parquet":
        return _parquet(settings, classes)
    return None


def _folders(settings: Images, classes: tuple[str, ...]) -> ImageSource | None:
    assert settings.path is not None
    chosen = choose_folder(Path(settings.path), settings.classes)
    unused = frozenset(chosen.names) - {*classes}
    if settings.test_path is not None:
        if "://" in settings.test_path:
            raise DataError(f"data.test_path {settings.test_path}: class folders are read from a mounted folder")
        return FoldersToTest(Path(settings.test_path), classes, unused, "data.test_path")
    if len(chosen.test_folders) > 1:
        found = listed(map(str, chosen.test_folders))
        raise DataError(f"data.path {settings.path} has several test folders: {found}; set data.test_path to one")
    return FoldersToTest(chosen.test_folders[0], classes, unused, "test set") if chosen.test_folders else None


def _parquet(settings: Images, classes: tuple[str, ...]) -> ImageSource | None:
    assert settings.path is not None
    path, choose = settings.path, list_test_files
    if settings.test_path is not None:
        path, choose = settings.test_path, list_files_to_test
    elif not list_test_files(path, SUFFIX)[1]:
        return None
    source = ParquetPictures(path, settings.image_column, settings.label_column, settings.classes, choose, classes)
    # classes that are all called by their numbers have no names in the training files
    if settings.classes is None and classes != tuple(map(str, range(len(classes)))):
        for label, (known, name) in enumerate(zip(classes, source.classes, strict=False)):
            if known != name:
                raise DataError(
                    f"the test files call label {label} {name!r}, the training files {known!r}: write one of them "
                    "again, or, where both mean the same class, name all classes in data.classes"
                )
    return source
