"""The images of a training from scratch: batches of the weight half, the held-out part, and the closed test set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ray_darts.config.training import TrainingSettings
from ray_darts.data.batch import Batch, Draws, Shard
from ray_darts.data.images.pixels import PixelSeries
from ray_darts.data.streams import ShuffledRows
from ray_darts.data.summary import classes_line
from ray_darts.data.test_access import check_may_open
from ray_darts.errors import DataError
from ray_darts.protocols.dataset import DataFacts, TestData
from ray_darts.protocols.method import Progress

if TYPE_CHECKING:
    from ray_darts.data.images.streams import ImageSet


class ImageTrainingStreams:
    """TrainingData over an ImageSet for one seed.

    Every global batch is full: an epoch's last partial batch is dropped, in each epoch another one. The validation part
    is the alpha half; without `training.hold_out` both halves are trained on.
    """

    def __init__(self, data: ImageSet, training: TrainingSettings, seed: int) -> None:
        self._data, self._training, self._seed = data, training, seed
        rows = data.weight_rows
        if not training.hold_out:
            rows = np.sort(np.concatenate([data.weight_rows, data.alpha_rows]))
        if len(rows) < training.batch_size:
            raise DataError(
                f"the training part has {len(rows)} samples, fewer than training.batch_size = {training.batch_size}: "
                "lower it, or raise data.fraction"
            )
        place = data.settings.test_path
        if training.test and place is not None and "://" not in place and not os.path.exists(place):
            raise DataError(f"data.test_path {place} does not exist; it would be read after the last step")
        self._batches = data.batches(training.precision, training.cutout)
        self._rows = rows
        self._validation_rows = data.alpha_rows if training.hold_out else data.alpha_rows[:0]
        self._shuffled = ShuffledRows(rows, seed, "training")
        self._class_weights = data.class_weights(rows)
        self._series: tuple[Shard, PixelSeries] | None = None

    @property
    def facts(self) -> DataFacts:
        """Those of the images; the last note counts the samples of this training's parts."""
        facts = self._data.facts
        counts = self._counts(self._rows), self._counts(self._validation_rows)
        line = classes_line(facts.description.classes, *counts, "training part + validation part")
        about = replace(facts.description, notes=(*facts.description.notes[:-1], line))
        return replace(facts, description=about)

    @property
    def digests(self) -> dict[str, str]:
        return self._data.digests

    @property
    def documents(self) -> dict[str, str]:
        return self._data.documents

    @property
    def class_counts(self) -> tuple[int, ...]:
        return self._counts(self._rows)

    def _counts(self, rows: NDArray[np.int64]) -> tuple[int, ...]:
        labels = self._data.labels.numpy()[rows]
        return tuple(np.bincount(labels, minlength=self._data.facts.num_classes).tolist())

    def num_steps(self, epoch: int) -> int:
        """Full batches, the same number in every epoch."""
        return len(self._rows) // self._training.batch_size

    def total_steps(self, epochs: int) -> int:
        """Every epoch has the same number of steps."""
        return epochs * self.num_steps(0)

    def training_batch(self, epoch: int, index: int, shard: Shard, device: torch.device) -> Batch:
        """Batch `index` of the shuffled epoch: cropped, flipped, normalised, cut out."""
        steps, size = self.num_steps(epoch), self._training.batch_size
        if not 0 <= index < steps:
            raise IndexError(f"step {index} of an epoch of {steps}")
        start, stop = shard.bounds(size)
        step = epoch * steps + index
        draws = Draws(self._seed, "training", step, start, stop, size)
        return self._batches.batch(
            self._series_of(shard).at(step),
            self._rows_of(step, start, stop),
            draws,
            device,
            augment=True,
            starts_epoch=index == 0,
            class_weights=self._class_weights,
        )

    def _rows_of(self, step: int, start: int, stop: int) -> NDArray[np.int64]:
        epoch, index = divmod(step, self.num_steps(0))
        first = index * self._training.batch_size
        return self._shuffled.epoch(epoch)[first + start : first + stop]

    def _series_of(self, shard: Shard) -> PixelSeries:
        if self._series is None or self._series[0] != shard:
            start, stop = shard.bounds(self._training.batch_size)
            rows_of = partial(self._rows_of, start=start, stop=stop)
            self._series = shard, self._data.pixels.series(rows_of, self.total_steps(self._training.epochs))
        return self._series[1]

    def validation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """The alpha half in the source's order; a shard of the last batch may be empty."""
        rows = self._validation_rows
        return self._batches.in_order(rows, self._training.batch_size, "validation", shard, device)

    def open_test(self, progress: Progress) -> TestData | None:
        """Read the test set of the data's source."""
        check_may_open(progress, self._training)
        from ray_darts.data.images.test_set import load_test_images

        return load_test_images(self._data, self._batches.normalise, self._training.batch_size)
