"""Labelled images in memory (uint8, one size) and their streams: weight half, alpha half, evaluation.

Knows neither the sources of images (sources, parquet) nor the use of a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

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
from ray_darts.data.images.decoding import DecodedPictures, decode_all
from ray_darts.data.images.halves import check_halves, open_halves
from ray_darts.data.images.labels import check_class_weights, check_mean, describe
from ray_darts.data.images.pictures import infer_shape
from ray_darts.data.images.skipped import SKIPPED, skipped_document
from ray_darts.data.images.test_sources import check_test_fraction
from ray_darts.data.images.training import ImageTrainingStreams
from ray_darts.data.locations import S3Service, asked_service
from ray_darts.data.memory import check_memory
from ray_darts.data.streams import ShuffledRows
from ray_darts.data.summary import MOST_PROBLEMS
from ray_darts.errors import DataError
from ray_darts.protocols.dataset import DataFacts

_STATISTICS_CHUNK = 4096
_MOST_FLAT = 0.01
"""Share of the pictures that may be one flat colour without a warning."""


@dataclass(frozen=True)
class ImageSet:
    """The used samples, in the source's order: images uint8 [N, H, W, C], labels int64 [N].

    `weight_rows` and `alpha_rows` are indices into them; mean and std are those of pixels scaled to [0, 1].
    `documents`: {file name: JSON text} kept beside the runs. `s3`: opens s3:// paths of the test set.
    """

    images_NHWC: Tensor
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
        return ImageBatches(self.images_NHWC, self.labels, normalise, padding, flip, cutout, self.settings.augment)

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
    """Find, split and decode the images of `settings`, compute mean and std; check memory before decoding.

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
    num_bytes = len(rows) * shape.picture_bytes
    check_memory(
        num_bytes,
        memory_limit_bytes,
        f"the data set ({len(rows)} images of {shape.size}x{shape.size}x{shape.channels} bytes)",
        "see data.fraction",
    )
    decoded = decode_all(source.pictures(rows), len(rows), shape, memory_limit_bytes - num_bytes, settings.most_skipped)
    skipped = rows[sorted(decoded.skipped)]
    if len(skipped):
        split, rows = split.without(skipped), np.setdiff1d(rows, skipped)
        check_halves(source.labels, classes, split)
    weight_rows = np.searchsorted(rows, split.weight)
    mean, std = _mean_and_std(settings, decoded, weight_rows)
    labels = source.labels[rows]
    description = describe(
        source,
        split,
        classes,
        mean,
        std,
        memory_bytes=num_bytes,
        loading_bytes=num_bytes + decoded.peak_bytes,
        held_out=halves.held_out,
    )
    documents, digests = {}, {"data": samples_digest(decoded.images_NHWC, labels), "split": split.digest()}
    if len(skipped):
        document = skipped_document(source, skipped)
        documents[SKIPPED] = document
        digests["skipped"] = hashlib.sha256(document.encode()).hexdigest()
        number = "1 picture" if len(skipped) == 1 else f"{len(skipped)} pictures"
        first = f"{number} left out (data.on_error), first: {decoded.skipped[min(decoded.skipped)]}"
        description = replace(description, warnings=(*description.warnings, first))
    if decoded.num_flat > _MOST_FLAT * len(rows):
        warnings = (*description.warnings, decoded.flat_text(settings.background))
        description = replace(description, warnings=warnings)
    return ImageSet(
        images_NHWC=torch.from_numpy(decoded.images_NHWC),
        labels=torch.from_numpy(labels),
        weight_rows=weight_rows,
        alpha_rows=np.searchsorted(rows, split.alpha),
        mean=mean,
        std=std,
        facts=DataFacts(len(classes), shape.channels, shape.size, description),
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
        train = self._train.epoch(epoch)[index * size + start : index * size + stop]
        validation = self._validation.take(step * size + start, step * size + stop)
        batches = [
            self._batches.batch(
                rows,
                Draws(self._seed, stream, step, start, stop, size),
                device,
                augment=True,
                starts_epoch=index == 0,
                class_weights=self._class_weights[stream],
            )
            for stream, rows in (("train", train), ("validation", validation))
        ]
        return batches[0], batches[1]

    def evaluation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """The alpha half in the source's order; a shard of the last batch may be empty (N = 0, share 0)."""
        return self._batches.in_order(self._data.alpha_rows, self._batch_size, "evaluation", shard, device)


def _mean_and_std(
    settings: Images, decoded: DecodedPictures, weight_rows: NDArray[np.int64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, of pixels in [0, 1]; computed on the weight half in integers, without rounding."""
    images_NHWC = decoded.images_NHWC
    channels = images_NHWC.shape[3]
    check_mean(settings, channels)
    if settings.mean is not None and settings.std is not None:
        return settings.mean, settings.std
    totals, squares = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
    for first in range(0, len(weight_rows), _STATISTICS_CHUNK):
        chunk = images_NHWC[weight_rows[first : first + _STATISTICS_CHUNK]].astype(np.int64)
        totals += chunk.sum(axis=(0, 1, 2))
        squares += (chunk * chunk).sum(axis=(0, 1, 2))
    count = len(weight_rows) * images_NHWC.shape[1] * images_NHWC.shape[2]
    mean = [int(total) / count for total in totals]
    variance = [(int(s) * count - int(t) ** 2) / count**2 for s, t in zip(squares, totals, strict=True)]
    if min(variance) <= 0 and decoded.all_flat:
        raise DataError(decoded.flat_text(settings.background))
    if min(variance) <= 0:
        raise DataError(f"channel {variance.index(min(variance))} is the same everywhere; set data.mean and data.std")
    return tuple(m / 255 for m in mean), tuple(v**0.5 / 255 for v in variance)


def samples_digest(images_NHWC: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """SHA-256 (hex) of shape, pixels and labels."""
    data = hashlib.sha256(repr(images_NHWC.shape).encode())
    data.update(images_NHWC.data)
    data.update(labels.astype("<i8").tobytes())
    return data.hexdigest()
