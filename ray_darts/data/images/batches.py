"""Batches of labelled images: those of a step, augmented, and all rows in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.data.batch import Batch, Draws, Shard, to_device
from ray_darts.data.images.augment import Normalise, crop_and_flip, cut_out
from ray_darts.data.images.pixels import Pixels
from ray_darts.protocols.augmentation import Augmentation


@dataclass(frozen=True)
class ImageBatches:
    """Makes batches of images and labels int64 [N].

    `padding`, `flip` and `cutout`: how augmented batches are cropped, flipped and cut out; `augmentations`: instead of
    the first two.
    """

    pixels: Pixels
    labels: Tensor
    normalise: Normalise
    padding: int = 0
    flip: bool = False
    cutout: int = 0
    augmentations: tuple[Augmentation, ...] = ()

    def batch(
        self,
        images_NHWC: Tensor,
        rows: NDArray[np.int64],
        draws: Draws,
        device: torch.device,
        *,
        augment: bool,
        starts_epoch: bool,
        class_weights: Tensor | None = None,
    ) -> Batch:
        """Images uint8 [n, H, W, C] of `rows`, which are this shard's of the `draws.total` samples of a step.

        `class_weights` [classes]: of the losses.
        """
        images_NHWC = to_device(images_NHWC, device)
        if augment and self.augmentations:
            inputs = self.normalise.floats(self._augmented(images_NHWC, draws))
        else:
            if augment:
                images_NHWC = crop_and_flip(images_NHWC, draws, padding=self.padding, flip=0.5 * self.flip)
            inputs = self.normalise(images_NHWC)
        if augment and self.cutout:
            inputs = cut_out(inputs, draws, side=self.cutout)
        labels = self.labels.index_select(0, torch.from_numpy(rows))
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
        batches = [rows[first : first + size] for first in range(0, len(rows), size)]

        def rows_of(step: int) -> NDArray[np.int64]:
            start, stop = shard.bounds(len(batches[step]))
            return batches[step][start:stop]

        pixels = self.pixels.series(rows_of, len(batches))
        for step, some in enumerate(batches):
            draws = Draws(0, stream, step, *shard.bounds(len(some)), len(some))
            yield self.batch(pixels.at(step), rows_of(step), draws, device, augment=False, starts_epoch=step == 0)
