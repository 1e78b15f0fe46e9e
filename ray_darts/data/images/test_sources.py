"""Finds the test set of an image source: its own files, `data.test_path`, or the rows that `data.test_fraction` draws.

Lists names until a test set is opened; decodes nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.labels import check_labels
from ray_darts.data.images.sources import ImageSource, cifar10, cifar10_folder, open_source
from ray_darts.data.images.split import held_out_rows
from ray_darts.data.images.split_sources import TEST_SET, beside, open_held_out
from ray_darts.data.summary import listed
from ray_darts.errors import DataError


def check_test_fraction(settings: Images) -> None:
    """Raise DataError where `data.test_fraction` is given and test files lie beside the training files."""
    if settings.test_fraction == 0:
        return
    found = beside(settings, TEST_SET)
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
    return open_held_out(settings, classes, TEST_SET)
