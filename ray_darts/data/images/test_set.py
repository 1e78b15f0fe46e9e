"""The test set of an image source, read once after a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_darts.data.images.augment import Normalise
from ray_darts.protocols.dataset import TestData

if TYPE_CHECKING:
    from ray_darts.data.images.streams import ImageSet


def load_test_images(data: ImageSet, normalise: Normalise, batch_size: int) -> TestData | None:
    """The test set that belongs to `data`; None where its source has none. Raises: DataError."""
    return None
