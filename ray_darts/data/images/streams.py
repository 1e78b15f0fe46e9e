"""Labelled images (uint8, one size) and their streams: weight half, alpha half, evaluation.

Knows neither the sources of images (sources, parquet), nor where pixels are kept, nor the use of a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.config.search import SearchSettings
from ray_darts.config.training import TrainingSettings
from ray_darts.data.batch import Batch, Draws, Shard
from ray_darts.data.images.augment import Normalise
from ray_darts.data.images.batches import ImageBatches
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.halves import check_halves, open_halves
from ray_darts.data.images.labels import check_class_weights, check_mean, describe
from ray_darts.data.images.loading import load_pixels
from ray_darts.data.images.pictures import infer_shape
from ray_darts.data.images.pixels import Pixels, PixelSeries
from ray_darts.data.images.reading import PictureReading
from ray_darts.data.images.skipped import SKIPPED, skipped_document
from ray_darts.data.images.tally import Tally
from ray_darts.data.images.test_sources import check_test_fraction
from ray_darts.data.images.training import ImageTrainingStreams
from ray_darts.data.locations import S3Service, asked_service
from ray_darts.data.streams import ShuffledRows
from ray_darts.data.summary import MOST_PROBLEMS
from ray_darts.errors import DataError
from ray_darts.protocols.dataset import DataFacts

_MOST_FLAT = 0.01
"""Share of the pictures that may be one flat colour without a warning."""


@dataclass(frozen=True)
class ImageSet:
    """The samples that were read, in the source's order: their pixels, and labels int64 [N].

    `weight_rows` and `alpha_rows` are indices into them, without skipped pictures; mean and std are those of pixels
    scaled to [0, 1].
    `documents`: {file name: JSON text} kept beside the runs. `s3`: opens s3:// paths of the test set.
    """

    pixels: Pixels
    labels: Tensor
    weight_rows: NDArray[np.int64]
    alpha_rows: NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    facts: DataFacts
    digests: dict[str, str]
    documents: dict[str, str]
    settings: Images
    s3: S3Service | None = None

    def batches(self, precision: str, cutout: int = 0) -> ImageBatches:
        """Batches of these samples, whose inputs are float64 at precision "float64" and else float32."""
        dtype = torch.float64 if precision == "float64" else torch.float32
        normalise = Normalise(self.mean, self.std, self.facts.image_size, dtype)
        padding, flip = self.settings.padding, self.settings.flip
        return ImageBatches(self.pixels, self.labels, normalise, padding, flip, cutout, self.settings.augment)

    def class_weights(self, rows: NDArray[np.int64]) -> Tensor | None:
        """[classes] float64, of the losses of these samples, with mean 1 over them; None where all are 1."""
        chosen = self.settings.class_weights
        if chosen == "none":
            return None
        counts = torch.bincount(self.labels[torch.from_numpy(rows)], minlength=self.facts.num_classes).double()
        given = 1 / counts.clamp(min=1) if chosen == "balanced" else torch.tensor(chosen, dtype=torch.float64)
        return given * (counts.sum() / (counts * given).sum())

    def streams(self, search: SearchSettings, seed: int) -> ImageStreams:
        """The streams of one seed. Raises: DataError when a half is smaller than a batch."""
        return ImageStreams(self, search, seed)

    def training_streams(self, training: TrainingSettings, seed: int) -> ImageTrainingStreams:
        """The streams of one seed of a training. Raises: DataError when a part is smaller than a batch."""
        return ImageTrainingStreams(self, training, seed)


def load_images(settings: Images, memory_limit_bytes: int) -> ImageSet:
    """Find, split and read the images of `settings`, compute mean and std; check memory before decoding.

    Raises: DataError naming the file, row or setting at fault.
    """
    check_test_fraction(settings)
    halves = open_halves(settings)
    check_class_weights(settings, halves.classes)
    source, classes, split = halves.source, halves.classes, halves.split
    rows = np.sort(np.concatenate([split.weight, split.alpha]))
    shape = infer_shape(
        source.pictures(rows),
        settings.image_size,
        settings.channels,
        settings.background,
        max(MOST_PROBLEMS, settings.most_skipped + 1),
    )
    reading = PictureReading(source, rows, shape, np.isin(rows, split.weight), settings.most_skipped)
    loaded = load_pixels(settings, reading, memory_limit_bytes)
    findings, tally = loaded.findings, loaded.findings.tally
    skipped = rows[sorted(tally.skipped)]
    if len(skipped):
        split = split.without(skipped)
        check_halves(source.labels, classes, split)
    mean, std = _mean_and_std(settings, tally)
    description = describe(
        source,
        split,
        classes,
        mean,
        std,
        memory_bytes=loaded.memory_bytes,
        loading_bytes=loaded.loading_bytes,
        held_out=halves.held_out,
        notes=loaded.notes,
    )
    warnings = [*description.warnings, *loaded.warnings]
    documents, digests = {}, {"data": findings.digest, "split": split.digest()}
    if len(skipped):
        document = skipped_document(source, skipped)
        documents[SKIPPED] = document
        digests["skipped"] = hashlib.sha256(document.encode()).hexdigest()
        number = "1 picture" if len(skipped) == 1 else f"{len(skipped)} pictures"
        warnings.append(f"{number} left out (data.on_error), first: {tally.skipped[min(tally.skipped)]}")
    if tally.flat > _MOST_FLAT * len(rows):
        warnings.append(tally.flat_text(settings.background))
    return ImageSet(
        pixels=loaded.pixels,
        labels=torch.from_numpy(source.labels[rows]),
        weight_rows=np.searchsorted(rows, split.weight),
        alpha_rows=np.searchsorted(rows, split.alpha),
        mean=mean,
        std=std,
        facts=DataFacts(len(classes), shape.channels, shape.size, replace(description, warnings=tuple(warnings))),
        digests=digests,
        documents=documents,
        settings=settings,
        s3=asked_service(),
    )


class ImageStreams:
    """SearchData over an ImageSet for one seed: every global batch is full; an epoch's last partial batch is dropped.

    The weight half is reshuffled each epoch. The alpha half is one stream without replacement over its own epochs:
    step t takes its samples tB .. tB + B - 1, independent of the size of the weight half.
    """

    def __init__(self, data: ImageSet, search: SearchSettings, seed: int) -> None:
        self._data = data
        self._seed = seed
        self._batch_size = search.batch_size
        for half, rows in (("weight", data.weight_rows), ("alpha", data.alpha_rows)):
            if len(rows) < self._batch_size:
                raise DataError(
                    f"the {half} half has {len(rows)} samples, fewer than search.batch_size = {self._batch_size}: "
                    "lower it, or raise data.fraction"
                )
        self._batches = data.batches(search.precision)
        self._class_weights = {
            "train": data.class_weights(data.weight_rows),
            "validation": data.class_weights(data.alpha_rows),
        }
        self._train = ShuffledRows(data.weight_rows, seed, "train")
        self._validation = ShuffledRows(data.alpha_rows, seed, "validation")
        self._num_steps = self.total_steps(search.epochs)
        self._series: tuple[Shard, PixelSeries] | None = None

    @property
    def facts(self) -> DataFacts:
        return self._data.facts

    @property
    def digests(self) -> dict[str, str]:
        return self._data.digests

    @property
    def documents(self) -> dict[str, str]:
        return self._data.documents

    def num_steps(self, epoch: int) -> int:
        """Full batches in the weight half, the same in every epoch."""
        return len(self._data.weight_rows) // self._batch_size

    def total_steps(self, epochs: int) -> int:
        """Every epoch has the same number of steps."""
        return epochs * self.num_steps(0)

    def bilevel_batches(self, epoch: int, index: int, shard: Shard, device: torch.device) -> tuple[Batch, Batch]:
        """The (train, validation) batches of step `index` of `epoch`, both augmented."""
        steps = self.num_steps(epoch)
        if not 0 <= index < steps:
            raise IndexError(f"step {index} of an epoch of {steps}")
        step = epoch * steps + index
        size = self._batch_size
        start, stop = shard.bounds(size)
        pixels = self._series_of(shard)
        batches = [
            self._batches.batch(
                pixels.at(2 * step + half),
                self._rows(2 * step + half, start, stop),
                Draws(self._seed, stream, step, start, stop, size),
                device,
                augment=True,
                starts_epoch=index == 0,
                class_weights=self._class_weights[stream],
            )
            for half, stream in enumerate(("train", "validation"))
        ]
        return batches[0], batches[1]

    def _rows(self, request: int, start: int, stop: int) -> NDArray[np.int64]:
        """Samples start..stop-1 of the train batch (even requests) or of the validation batch (odd ones) of a step."""
        step, is_validation = divmod(request, 2)
        if is_validation:
            return self._validation.take(step * self._batch_size + start, step * self._batch_size + stop)
        epoch, index = divmod(step, self.num_steps(0))
        return self._train.epoch(epoch)[index * self._batch_size + start : index * self._batch_size + stop]

    def _series_of(self, shard: Shard) -> PixelSeries:
        if self._series is None or self._series[0] != shard:
            start, stop = shard.bounds(self._batch_size)
            rows_of = partial(self._rows, start=start, stop=stop)
            self._series = shard, self._data.pixels.series(rows_of, 2 * self._num_steps)
        return self._series[1]

    def evaluation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """The alpha half in the source's order; a shard of the last batch may be empty (N = 0, share 0)."""
        return self._batches.in_order(self._data.alpha_rows, self._batch_size, "evaluation", shard, device)


def _mean_and_std(settings: Images, tally: Tally) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, of pixels in [0, 1]; computed on the weight half in integers, without rounding."""
    check_mean(settings, tally.shape[2])
    if settings.mean is not None and settings.std is not None:
        return settings.mean, settings.std
    if tally.all_flat and tally.is_constant:
        raise DataError(tally.flat_text(settings.background))
    return tally.mean_and_std()
