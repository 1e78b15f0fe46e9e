"""Running text of a training from scratch: windows of random length, validation text, and the closed test text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from ray_darts.config.training import TrainingSettings
from ray_darts.data.batch import Batch, Shard
from ray_darts.data.test_access import check_may_open
from ray_darts.data.text.windows import EpochWindows, columns, normal_windows, windows_in_order
from ray_darts.protocols.dataset import DataFacts, TestData
from ray_darts.protocols.method import Progress

if TYPE_CHECKING:
    from ray_darts.data.text.streams import TextSet


class TextTrainingStreams:
    """TrainingData over a TextSet for one seed; the train text in `training.batch_size` columns.

    The hidden state is carried from window to window, and is zero at each epoch's start.
    """

    def __init__(self, data: TextSet, training: TrainingSettings, seed: int) -> None:
        settings = data.settings
        self._data, self._training = data, training
        train = columns(data.tokens.train, training.batch_size, "train", "training.batch_size")
        self._train = EpochWindows(train, settings.fraction, settings.bptt, seed, "training", normal_windows)
        self._validation = columns(
            data.tokens.validation, settings.evaluation_batch_size, "validation", "data.evaluation_batch_size"
        )

    @property
    def facts(self) -> DataFacts:
        return self._data.facts

    @property
    def digests(self) -> dict[str, str]:
        return self._data.digests

    @property
    def documents(self) -> dict[str, str]:
        return self._data.documents

    @property
    def class_counts(self) -> tuple[int, ...]:
        return ()

    def num_steps(self, epoch: int) -> int:
        """The number of windows of `epoch`, which varies."""
        return self._train.num_steps(epoch)

    def total_steps(self, epochs: int) -> int:
        """Steps in the first `epochs` epochs."""
        return self._train.first_step(epochs)

    def training_batch(self, epoch: int, index: int, shard: Shard, device: torch.device) -> Batch:
        """Window `index` of `epoch`."""
        return self._train.batch(epoch, index, shard, device)

    def validation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """The validation text in `data.evaluation_batch_size` columns, `bptt` rows at a time."""
        return windows_in_order(self._validation, self._data.settings.bptt, "validation", shard, device)

    def open_test(self, progress: Progress) -> TestData | None:
        """Read the test text."""
        check_may_open(progress, self._training)
        from ray_darts.data.text.test_set import load_test_text

        return load_test_text(self._data)
