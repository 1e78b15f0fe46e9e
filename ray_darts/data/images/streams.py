"""Labelled images in memory (uint8, one size) and their streams: weight half, alpha half, evaluation.

Knows neither the sources of images (sources, parquet) nor the use of a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.config.search import SearchSettings
from ray_darts.data.batch import Batch, Draws, Shard, to_device
from ray_darts.data.images.augment import Normalise, crop_and_flip
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.parquet import ParquetPictures
from ray_darts.data.images.pictures import decode_all, infer_shape
from ray_darts.data.images.sources import ClassFolders, ImageSource, cifar10, digits
from ray_darts.data.images.split import Split, stratified_split
from ray_darts.data.memory import check_memory
from ray_darts.data.streams import ShuffledRows
from ray_darts.errors import DataError
from ray_darts.protocols.dataset import DataFacts

_CIFAR10_FOLDER = Path("~/.cache/ray_darts/cifar10")
_STATISTICS_CHUNK = 4096


@dataclass(frozen=True)
class ImageSet:
    """The used samples, in the source's order: images uint8 [N, H, W, C], labels int64 [N].

    `weight_rows` and `alpha_rows` are indices into them; mean and std are those of pixels scaled to [0, 1].
    """

    images_NHWC: Tensor
    labels: Tensor
    weight_rows: NDArray[np.int64]
    alpha_rows: NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    facts: DataFacts
    digests: dict[str, str]
    settings: Images

    def streams(self, search: SearchSettings, seed: int) -> ImageStreams:
        """The streams of one seed. Raises: DataError when a half is smaller than a batch."""
        return ImageStreams(self, search, seed)


def load_images(settings: Images, memory_limit_bytes: int) -> ImageSet:
    """Find, split and decode the images of `settings`, compute mean and std; check memory before decoding.

    Raises: DataError naming the file, row or setting at fault.
    """
    source = _source(settings)
    num_classes = _check_labels(source, settings.num_classes)
    split = stratified_split(
        source.labels,
        num_classes,
        fraction=settings.fraction,
        alpha_fraction=settings.alpha_fraction,
        split_seed=settings.split_seed,
    )
    rows = np.sort(np.concatenate([split.weight, split.alpha]))
    shape = infer_shape(next(source.pictures(rows[:1])), settings.image_size, settings.channels)
    check_memory(
        len(rows) * shape.picture_bytes,
        memory_limit_bytes,
        f"the data set ({len(rows)} images of {shape.size}x{shape.size}x{shape.channels} bytes)",
        "see data.fraction",
    )
    images_NHWC = decode_all(source.pictures(rows), len(rows), shape)
    weight_rows = np.searchsorted(rows, split.weight)
    mean, std = _mean_and_std(settings, images_NHWC, weight_rows)
    labels = source.labels[rows]
    return ImageSet(
        images_NHWC=torch.from_numpy(images_NHWC),
        labels=torch.from_numpy(labels),
        weight_rows=weight_rows,
        alpha_rows=np.searchsorted(rows, split.alpha),
        mean=mean,
        std=std,
        facts=DataFacts(num_classes=num_classes, channels=shape.channels, image_size=shape.size),
        digests=_digests(images_NHWC, labels, split),
        settings=settings,
    )


class ImageStreams:
    """SearchData over an ImageSet for one seed: every global batch is full; an epoch's last partial batch is dropped.

    The weight half is reshuffled each epoch. The alpha half is one stream without replacement over its own epochs:
    step t takes its samples tB .. tB + B - 1, independent of the size of the weight half.
    """

    def __init__(self, data: ImageSet, search: SearchSettings, seed: int) -> None:
        self._data = data
        self._seed = seed
        self._settings = data.settings
        self._batch_size = search.batch_size
        for half, rows in (("weight", data.weight_rows), ("alpha", data.alpha_rows)):
            if len(rows) < self._batch_size:
                raise DataError(
                    f"the {half} half has {len(rows)} samples, fewer than search.batch_size = {self._batch_size}: "
                    "lower it, or raise data.fraction"
                )
        dtype = torch.float64 if search.precision == "float64" else torch.float32
        self._normalise = Normalise(data.mean, data.std, data.facts.image_size, dtype)
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
        return {}

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
            self._batch(rows, Draws(self._seed, stream, step, start, stop, size), device, starts_epoch=index == 0)
            for stream, rows in (("train", train), ("validation", validation))
        ]
        return batches[0], batches[1]

    def evaluation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """The alpha half in the source's order; a shard of the last batch may be empty (N = 0, share 0)."""
        rows = self._data.alpha_rows
        for step, first in enumerate(range(0, len(rows), self._batch_size)):
            batch_rows = rows[first : first + self._batch_size]
            start, stop = shard.bounds(len(batch_rows))
            draws = Draws(self._seed, "evaluation", step, start, stop, len(batch_rows))
            yield self._batch(batch_rows[start:stop], draws, device, starts_epoch=step == 0, augment=False)

    def _batch(
        self, rows: NDArray[np.int64], draws: Draws, device: torch.device, *, starts_epoch: bool, augment: bool = True
    ) -> Batch:
        chosen = torch.from_numpy(rows)
        images_NHWC = to_device(self._data.images_NHWC.index_select(0, chosen), device)
        if augment:
            images_NHWC = crop_and_flip(images_NHWC, draws, padding=self._settings.padding, flip=self._settings.flip)
        return Batch(
            inputs=self._normalise(images_NHWC),
            targets=to_device(self._data.labels.index_select(0, chosen), device),
            draws=draws,
            share=len(rows) / draws.total,
            starts_epoch=starts_epoch,
        )


def _source(settings: Images) -> ImageSource:
    if settings.source == "digits":
        return digits()
    if settings.source == "cifar10":
        return cifar10(Path(settings.path) if settings.path is not None else _CIFAR10_FOLDER.expanduser())
    assert settings.path is not None, "the config demands data.path for these sources"
    if settings.source == "folder":
        return ClassFolders(Path(settings.path))
    return ParquetPictures(settings.path, settings.image_column, settings.label_column)


def _check_labels(source: ImageSource, num_classes: int | None) -> int:
    """Return the number of classes: the given one, or the largest label plus one."""
    labels = source.labels
    if len(labels) == 0:
        raise DataError("the data set has no samples")
    known = int(labels.max()) + 1 if num_classes is None else num_classes
    if known < 2:
        raise DataError(f"all labels are 0 in {source.name(0)} and the rest; at least 2 classes are needed")
    wrong = np.flatnonzero((labels < 0) | (labels >= known))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{source.name(row)} has label {labels[row]}, wanted are 0 to {known - 1} ({len(wrong)} rows are wrong); "
            "see data.num_classes and data.label_column",
            row=row,
        )
    return known


def _mean_and_std(
    settings: Images, images_NHWC: NDArray[np.uint8], weight_rows: NDArray[np.int64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, of pixels in [0, 1]; computed on the weight half in integers, without rounding."""
    channels = images_NHWC.shape[3]
    if settings.mean is not None and settings.std is not None:
        if len(settings.mean) != channels:
            raise DataError(f"data.mean has {len(settings.mean)} values, the images have {channels} channels")
        return settings.mean, settings.std
    totals, squares = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
    for first in range(0, len(weight_rows), _STATISTICS_CHUNK):
        chunk = images_NHWC[weight_rows[first : first + _STATISTICS_CHUNK]].astype(np.int64)
        totals += chunk.sum(axis=(0, 1, 2))
        squares += (chunk * chunk).sum(axis=(0, 1, 2))
    count = len(weight_rows) * images_NHWC.shape[1] * images_NHWC.shape[2]
    mean = [int(total) / count for total in totals]
    variance = [(int(s) * count - int(t) ** 2) / count**2 for s, t in zip(squares, totals, strict=True)]
    if min(variance) <= 0:
        raise DataError(f"channel {variance.index(min(variance))} is the same everywhere; set data.mean and data.std")
    return tuple(m / 255 for m in mean), tuple(v**0.5 / 255 for v in variance)


def _digests(images_NHWC: NDArray[np.uint8], labels: NDArray[np.int64], split: Split) -> dict[str, str]:
    data = hashlib.sha256(repr(images_NHWC.shape).encode())
    data.update(images_NHWC.data)
    data.update(labels.astype("<i8").tobytes())
    return {"data": data.hexdigest(), "split": split.digest()}
