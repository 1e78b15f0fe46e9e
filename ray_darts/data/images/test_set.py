"""The test set of an image source, read once after a training."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ray_darts.data.batch import Batch, Shard
from ray_darts.data.images.augment import Normalise
from ray_darts.data.images.batches import ImageBatches
from ray_darts.data.images.loading import load_pixels
from ray_darts.data.images.pictures import PictureShape
from ray_darts.data.images.reading import PictureReading
from ray_darts.data.images.streams import ImageSet
from ray_darts.data.images.test_sources import open_test_source
from ray_darts.data.locations import asking
from ray_darts.data.memory import available_memory_bytes

logger = logging.getLogger("ray_darts.data")


@dataclass(frozen=True)
class ImagesToTest:
    """TestData in the source's order, `batch_size` at a time."""

    images: ImageBatches
    digest: str
    batch_size: int

    @property
    def num_samples(self) -> int:
        return len(self.images.labels)

    def batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """All images; a shard of the last batch may be empty (N = 0, share 0)."""
        return self.images.in_order(np.arange(self.num_samples), self.batch_size, "test", shard, device)


def load_test_images(data: ImageSet, normalise: Normalise, batch_size: int) -> ImagesToTest | None:
    """The test set that belongs to `data`; None where its source has none.

    Logs a warning with the number of test pictures that are in `data`, too. Raises: DataError.
    """
    settings, facts = data.settings, data.facts
    shape = PictureShape(
        facts.image_size,
        facts.channels,
        resize=settings.image_size is not None,
        background=settings.background,
        to_grey=settings.channels is not None,
    )
    with asking(data.s3):
        found = open_test_source(settings, facts.description.classes)
        if found is None:
            return None
        source, rows = found
        reading = PictureReading(source, rows, shape, np.zeros(len(rows), bool))
        loaded = load_pixels(settings, reading, available_memory_bytes(), "the test set")
    used = np.concatenate([data.weight_rows, data.alpha_rows])
    shared = int(np.isin(loaded.pixels.hashes(), data.pixels.hashes()[used]).sum())
    if shared:
        logger.warning(
            "%d of %d test pictures are in the training data, too (equal pixels once decoded): the test score says "
            "less about new pictures; remove them from one of the two",
            shared,
            len(rows),
        )
    images = ImageBatches(loaded.pixels, torch.from_numpy(source.labels[rows]), normalise)
    return ImagesToTest(images, loaded.findings.digest, batch_size)
