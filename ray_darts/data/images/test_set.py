"""The test set of an image source, read once after a training."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ray_darts.data.batch import Batch, Shard
from ray_darts.data.images.augment import Normalise
from ray_darts.data.images.batches import ImageBatches
from ray_darts.data.images.decoding import decode_all
from ray_darts.data.images.pictures import PictureShape
from ray_darts.data.images.streams import ImageSet, samples_digest
from ray_darts.data.images.test_sources import open_test_source
from ray_darts.data.locations import asking
from ray_darts.data.memory import available_memory_bytes, check_memory

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
        num_bytes, limit = len(rows) * shape.picture_bytes, available_memory_bytes()
        check_memory(num_bytes, limit, f"the test set ({len(rows)} images)", "use a machine with more memory")
        images_NHWC = decode_all(source.pictures(rows), len(rows), shape, limit - num_bytes).images_NHWC
    labels = source.labels[rows]
    shared = num_shared(images_NHWC, data.images_NHWC.numpy())
    if shared:
        logger.warning(
            "%d of %d test pictures are in the training data, too (equal pixels once decoded): the test score says "
            "less about new pictures; remove them from one of the two",
            shared,
            len(rows),
        )
    images = ImageBatches(torch.from_numpy(images_NHWC), torch.from_numpy(labels), normalise)
    return ImagesToTest(images, samples_digest(images_NHWC, labels), batch_size)


def num_shared(test_NHWC: NDArray[np.uint8], training_NHWC: NDArray[np.uint8]) -> int:
    """How many test pictures equal a training picture, pixel by pixel."""
    hashes = [_hash(picture) for picture in test_NHWC]
    shared = set(hashes) & set(map(_hash, training_NHWC))
    return sum(found in shared for found in hashes)


def _hash(picture_HWC: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(picture_HWC.data, digest_size=16).digest()
