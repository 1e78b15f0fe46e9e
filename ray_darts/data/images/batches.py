"""Batches of labelled images in memory: rows of a step, augmented, and all rows in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.data.batch import Batch, Draws, Shard, to_device
from ray_darts.data.images.augment import Normalise, crop_and_flip, cut_out
from ray_darts.protocols.augmentation import Augmentation


@dataclass(frozen=True)
class ImageBatches:
    """Makes batches of images uint8 [N, H, W, C] and labels int64 [N].

    `padding`, `flip` and `cutout`: how augmented batches are cropped, flipped and cut out; `augmentations`: instead of
    the first two.
    """

    images_NHWC: Tensor
    labels: Tensor
    normalise: Normalise
    padding: int = 0
    flip: bool = False
    cutout: int = 0
    augmentations: tuple[Augmentation, ...] = ()

    def batch(
        self,
        rows: NDArray[np.int64],
        draws: Draws,
        device: torch.device,
        *,
        augment: bool,
        starts_epoch: bool,
        class_weights: Tensor | None = None,
    ) -> Batch:
        """These rows, which are this shard's of the `draws.total` samples of a step.

        `class_weights` [classes]: of the losses.
        """
        chosen = torch.from_numpy(rows)
        images_NHWC = to_device(self.images_NHWC.index_select(0, chosen), device)
        if augment and self.augmentations:
            inputs = self.normalise.floats(self._augmented(images_NHWC, draws))
        else:
            if augment:
                images_NHWC = crop_and_flip(images_NHWC, draws, padding=self.padding, flip=0.5 * self.flip)
            inputs = self.normalise(images_NHWC)
        if augment and self.cutout:
            inputs = cut_out(inputs, draws, side=self.cutout)
        labels = self.labels.index_select(0, chosen)
        return Batch(
            inputs=inputs,
            targets=to_device(labels, device),
            weights=None if class_weights is None else to_device(class_weights[labels], device),
            draws=draws,
            share=len(rows) / draws.total,
            starts_epoch=starts_epoch,
        )

    def _augmented(self, images_NHWC: Tensor, draws: Draws) -> Tensor:
        """Pixels in [0, 1], [N, C, H, W], changed by each augmentation in turn."""
        images_NCHW = (images_NHWC.to(self.normalise.dtype) / 255).permute(0, 3, 1, 2)
        for number, augmentation in enumerate(self.augmentations):
            images_NCHW = augmentation.apply(images_NCHW, draws, f"augment.{number}")
        return images_NCHW

    def in_order(
        self, rows: NDArray[np.int64], size: int, stream: str, shard: Shard, device: torch.device
    ) -> Iterator[Batch]:
        """All `rows`, `size` at a time, not augmented; a shard of the last batch may be empty (N = 0, share 0).

        Nothing is drawn, so the batches have no seed.
        """
        for step, first in enumerate(range(0, len(rows), size)):
            some = rows[first : first + size]
            start, stop = shard.bounds(len(some))
            draws = Draws(0, stream, step, start, stop, len(some))
            yield self.batch(some[start:stop], draws, device, augment=False, starts_epoch=step == 0)
