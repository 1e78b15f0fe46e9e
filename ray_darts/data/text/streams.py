"""Running text in memory (word numbers) and its streams: columns, BPTT windows, evaluation.

Knows neither the sources of text (sources) nor the hidden state that is carried from window to window.
Shapes: T words in a row, B columns; text runs down a column, and column b + 1 continues column b.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.config.search import SearchSettings
from ray_darts.data.batch import Batch, Draws, Shard, generator, to_device
from ray_darts.data.locations import S3Service, asked_service
from ray_darts.data.memory import check_memory
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.sources import open_text
from ray_darts.data.text.vocabulary import Vocabulary, read_training_text
from ray_darts.errors import DataError
from ray_darts.protocols.dataset import DataDescription, DataFacts

if TYPE_CHECKING:
    from ray_darts.config.training import TrainingSettings
    from ray_darts.data.text.training import TextTrainingStreams

_FULL_LENGTH_PROBABILITY = 0.95
_SHORTEST_WINDOW = 2  # temporal activation regularisation compares neighbours
MEMORY_PER_TEXT_BYTE = 4  # a word has at least two bytes with its separator, and is numbered twice in int32


@dataclass(frozen=True)
class TextSet:
    """Word numbers (int32) of the whole train and validation texts, and the vocabulary, counted on the train text.

    `s3`: opens the s3:// path again for the test text.
    """

    train: NDArray[np.int32]
    validation: NDArray[np.int32]
    vocabulary: Vocabulary
    digests: dict[str, str]
    settings: Text
    loading_bytes: int = 0
    s3: S3Service | None = None

    def streams(self, search: SearchSettings, seed: int) -> TextStreams:
        """The streams of one seed. Raises: DataError when a text is too short for its columns."""
        return TextStreams(self, search, seed)

    def training_streams(self, training: TrainingSettings, seed: int) -> TextTrainingStreams:
        """The streams of one seed of a training. Raises: DataError when a text is too short for its columns."""
        from ray_darts.data.text.training import TextTrainingStreams

        return TextTrainingStreams(self, training, seed)

    @property
    def facts(self) -> DataFacts:
        held = self.train.nbytes + self.validation.nbytes
        about = DataDescription(memory_bytes=held, loading_bytes=self.loading_bytes)
        return DataFacts(num_classes=len(self.vocabulary), description=about)


def load_text(settings: Text, memory_limit_bytes: int) -> TextSet:
    """Read the train and validation text of `settings` and count the vocabulary. Does not read the test text.

    Raises: DataError naming the file or package at fault.
    """
    source = open_text(settings)
    size = source.num_bytes("train") + source.num_bytes("valid")
    loading = size * MEMORY_PER_TEXT_BYTE
    check_memory(loading, memory_limit_bytes, f"the text ({size} bytes)", "use less text")
    train, vocabulary = read_training_text(source.lines("train"), settings.vocabulary_size)
    validation = vocabulary.encode(source.lines("valid"))
    digests = {"data": text_digest(train, validation), "vocabulary": vocabulary.digest()}
    return TextSet(train, validation, vocabulary, digests, settings, loading, asked_service())


def text_digest(*texts: NDArray[np.int32]) -> str:
    """SHA-256 (hex) of the length and the word numbers of each text."""
    digest = hashlib.sha256()
    for tokens in texts:
        digest.update(len(tokens).to_bytes(8, "little"))
        digest.update(tokens.astype("<i4").tobytes())
    return digest.hexdigest()


class TextStreams:
    """SearchData over a TextSet for one seed.

    Both texts are cut into `search.batch_size` columns. A step's train window starts where the last one ended; its
    validation window starts at the same position modulo the validation text's length, and is `bptt` long or cut at the
    end. `data.fraction` keeps the first rows of the train columns, so it keeps words from all parts of the text.
    """

    def __init__(self, data: TextSet, search: SearchSettings, seed: int) -> None:
        settings = data.settings
        self._data = data
        self._seed = seed
        self._bptt = settings.bptt
        train = columns(data.train, search.batch_size, "train", "search.batch_size")
        self._train = train[: max(round(settings.fraction * len(train)), _SHORTEST_WINDOW + 1)]
        self._validation = columns(data.validation, search.batch_size, "validation", "search.batch_size")
        self._evaluation = columns(
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

    def num_steps(self, epoch: int) -> int:
        """The number of windows of `epoch`, which varies, as each epoch draws new lengths."""
        return len(self._window_starts(epoch)) - 1

    def total_steps(self, epochs: int) -> int:
        """Draws the lengths of every epoch; `Text.mistakes` bounds their number."""
        return self._first_step(epochs)

    def bilevel_batches(self, epoch: int, index: int, shard: Shard, device: torch.device) -> tuple[Batch, Batch]:
        """The (train, validation) windows of step `index` of `epoch`; this shard's columns of each."""
        steps = self.num_steps(epoch)
        if not 0 <= index < steps:
            raise IndexError(f"step {index} of an epoch of {steps}")
        start, stop = self._window_starts(epoch)[index : index + 2].tolist()
        validation_start = start % (len(self._validation) - 1)
        validation_stop = min(validation_start + self._bptt, len(self._validation) - 1)
        step = self._first_step(epoch) + index
        train = self._window_of(self._train, start, stop, "train", step, shard, device, starts_epoch=index == 0)
        validation = self._window_of(
            self._validation,
            validation_start,
            validation_stop,
            "validation",
            step,
            shard,
            device,
            starts_epoch=index == 0,
        )
        return train, validation

    def evaluation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """The validation text in `evaluation_batch_size` columns; a shard may hold no column (share 0)."""
        last = len(self._evaluation) - 1
        for step, start in enumerate(range(0, last, self._bptt)):
            stop = min(start + self._bptt, last)
            yield self._window_of(
                self._evaluation, start, stop, "evaluation", step, shard, device, starts_epoch=step == 0
            )

    def _window_of(
        self,
        text_TB: Tensor,
        start: int,
        stop: int,
        stream: str,
        step: int,
        shard: Shard,
        device: torch.device,
        *,
        starts_epoch: bool,
    ) -> Batch:
        draws = Draws(self._seed, stream, step, *shard.bounds(text_TB.shape[1]), text_TB.shape[1])
        return window(text_TB, start, stop, draws, device, scale=(stop - start) / self._bptt, starts_epoch=starts_epoch)

    def _window_starts(self, epoch: int) -> NDArray[np.int64]:
        """The starts of the train windows of `epoch`, and as last entry the end of the last one."""
        starts = self._starts.get(epoch)
        if starts is None:
            draws = generator(self._seed, "train", "lengths", epoch)
            starts = window_starts(draws, len(self._train) - 1, self._bptt)
            self._starts = {epoch: starts}
        return starts

    def _first_step(self, epoch: int) -> int:
        """Steps in all epochs before `epoch`."""
        while len(self._first_steps) <= epoch:
            done = len(self._first_steps) - 1
            self._first_steps.append(self._first_steps[done] + self.num_steps(done))
        return self._first_steps[epoch]


def window(
    text_TB: Tensor, start: int, stop: int, draws: Draws, device: torch.device, *, scale: float, starts_epoch: bool
) -> Batch:
    """Rows start..stop-1 of the columns of `draws`' shard, and the words that follow each.

    `scale`: of the learning rate.
    """
    words_TN = to_device(text_TB[start : stop + 1, draws.start : draws.stop].contiguous(), device).long()
    return Batch(
        inputs=words_TN[:-1],
        targets=words_TN[1:],
        draws=draws,
        share=(draws.stop - draws.start) / draws.total,
        batch_dim=1,
        learning_rate_scale=scale,
        starts_epoch=starts_epoch,
    )


def columns(tokens: NDArray[np.int32], num_columns: int, what: str, setting: str) -> Tensor:
    """Cut a text into columns [T, B], dropping words that do not fill a row. Raises: DataError when too short."""
    length = len(tokens) // num_columns
    if length <= _SHORTEST_WINDOW:
        raise DataError(
            f"the {what} text has {len(tokens)} words, too few for {setting} = {num_columns} columns of more than "
            f"{_SHORTEST_WINDOW}: lower it, or use more text"
        )
    return torch.from_numpy(np.ascontiguousarray(tokens[: length * num_columns].reshape(num_columns, length).T))


def window_starts(draws: np.random.Generator, length: int, bptt: int) -> NDArray[np.int64]:
    """Cut `length` predictions into windows: `bptt` with probability 0.95, else half of it; the last may be shorter.

    All lengths are drawn at once (arXiv:1806.09055, appendix A.1.2). A remainder too short for a window is dropped.
    """
    short = max(bptt // 2, _SHORTEST_WINDOW)
    full = draws.random(length // short + 1) < _FULL_LENGTH_PROBABILITY
    ends = np.cumsum(np.where(full, bptt, short))
    inside = ends[ends < length]
    remainder = length - (int(inside[-1]) if len(inside) else 0)
    tail = [length] if remainder >= _SHORTEST_WINDOW else []
    return np.array([0, *inside.tolist(), *tail], np.int64)
