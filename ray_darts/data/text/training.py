"""Running text of a training from scratch: windows of random length, validation text, and the closed test text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.config.training import TrainingSettings
from ray_darts.data.batch import Batch, Draws, Shard, generator
from ray_darts.data.test_access import check_may_open
from ray_darts.data.text.streams import columns, window
from ray_darts.protocols.dataset import DataFacts, TestData
from ray_darts.protocols.method import Progress

if TYPE_CHECKING:
    from ray_darts.data.text.streams import TextSet

_FULL_LENGTH_PROBABILITY = 0.95
_DEVIATION, _LONGER = 5.0, 20
_SHORTEST = 5
_SHORTEST_WINDOW = 2


class TextTrainingStreams:
    """TrainingData over a TextSet for one seed; the train text in `training.batch_size` columns.

    `data.fraction` keeps the first rows of all columns. The hidden state is carried from window to window, and is zero
    at each epoch's start.
    """

    def __init__(self, data: TextSet, training: TrainingSettings, seed: int) -> None:
        settings = data.settings
        self._data, self._training, self._seed, self._bptt = data, training, seed, settings.bptt
        train = columns(data.train, training.batch_size, "train", "training.batch_size")
        self._train = train[: max(round(settings.fraction * len(train)), _SHORTEST_WINDOW + 1)]
        self._validation = columns(
            data.validation, settings.evaluation_batch_size, "validation", "data.evaluation_batch_size"
        )
        self._starts: dict[int, NDArray[np.int64]] = {}
        self._first_steps = [0]

    @property
    def facts(self) -> DataFacts:
        return self._data.facts

    @property
    def digests(self) -> dict[str, str]:
        return self._data.digests

    @property
    def documents(self) -> dict[str, str]:
        return {"vocabulary.json": self._data.vocabulary.to_json()}

    @property
    def class_counts(self) -> tuple[int, ...]:
        return ()

    def num_steps(self, epoch: int) -> int:
        """The number of windows of `epoch`, which varies, as each epoch draws new lengths."""
        return len(self._window_starts(epoch)) - 1

    def total_steps(self, epochs: int) -> int:
        """Steps in the first `epochs` epochs."""
        return self._first_step(epochs)

    def training_batch(self, epoch: int, index: int, shard: Shard, device: torch.device) -> Batch:
        """Window `index` of `epoch`."""
        starts = self._window_starts(epoch)
        if not 0 <= index < len(starts) - 1:
            raise IndexError(f"step {index} of an epoch of {len(starts) - 1}")
        start, stop = int(starts[index]), int(starts[index + 1])
        total = self._train.shape[1]
        draws = Draws(self._seed, "training", self._first_step(epoch) + index, *shard.bounds(total), total)
        scale = (stop - start) / self._bptt
        return window(self._train, start, stop, draws, device, scale=scale, starts_epoch=index == 0)

    def validation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """The validation text in `data.evaluation_batch_size` columns, `bptt` rows at a time."""
        return evaluation_windows(self._validation, self._bptt, "validation", shard, device)

    def open_test(self, progress: Progress) -> TestData | None:
        """Read the test text."""
        check_may_open(progress, self._training)
        from ray_darts.data.text.test_set import load_test_text

        return load_test_text(self._data)

    def _window_starts(self, epoch: int) -> NDArray[np.int64]:
        """The starts of the windows of `epoch`, and as last entry the end of the last one."""
        starts = self._starts.get(epoch)
        if starts is None:
            draws = generator(self._seed, "training", "lengths", epoch)
            starts = random_window_starts(draws, len(self._train) - 1, self._bptt)
            self._starts = {epoch: starts}
        return starts

    def _first_step(self, epoch: int) -> int:
        """Steps in all epochs before `epoch`."""
        while len(self._first_steps) <= epoch:
            done = len(self._first_steps) - 1
            self._first_steps.append(self._first_steps[done] + self.num_steps(done))
        return self._first_steps[epoch]


def evaluation_windows(text_TB: Tensor, bptt: int, stream: str, shard: Shard, device: torch.device) -> Iterator[Batch]:
    """All of a text once, in windows of `bptt`; the last may be shorter, so that no word is left out.

    A shard may hold no column (share 0). Nothing is drawn, so the windows have no seed.
    """
    last, total = len(text_TB) - 1, text_TB.shape[1]
    for step, start in enumerate(range(0, last, bptt)):
        draws = Draws(0, stream, step, *shard.bounds(total), total)
        stop = min(start + bptt, last)
        yield window(text_TB, start, stop, draws, device, scale=1.0, starts_epoch=step == 0)


def random_window_starts(draws: np.random.Generator, length: int, bptt: int) -> NDArray[np.int64]:
    """Cut `length` predictions into windows of max(5, int(N(mean, 5))) and at most bptt + 20.

    `mean` is bptt with probability 0.95, else its half (arXiv:1708.02182, section 5). The last may be shorter; a
    remainder of one is dropped.
    """
    shortest = max(_SHORTEST_WINDOW, min(_SHORTEST, bptt))
    most = length // shortest + 1
    means = np.where(draws.random(most) < _FULL_LENGTH_PROBABILITY, bptt, bptt / 2)
    lengths = np.clip((means + _DEVIATION * draws.standard_normal(most)).astype(np.int64), shortest, bptt + _LONGER)
    ends = np.cumsum(lengths)
    inside = ends[ends < length]
    remainder = length - (int(inside[-1]) if len(inside) else 0)
    tail = [length] if remainder >= _SHORTEST_WINDOW else []
    return np.array([0, *inside.tolist(), *tail], np.int64)
