"""Running text in memory (word numbers) and the streams of a search over it.

Knows neither the sources of text (sources) nor the hidden state that is carried from window to window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ray_darts.config.search import SearchSettings
from ray_darts.data.batch import Batch, Draws, Shard
from ray_darts.data.locations import S3Service, asked_service
from ray_darts.data.memory import check_memory
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.sources import open_text
from ray_darts.data.text.training import TextTrainingStreams
from ray_darts.data.text.vocabulary import Vocabulary, read_training_text
from ray_darts.data.text.windows import EpochWindows, columns, full_or_half_windows, window, windows_in_order
from ray_darts.protocols.dataset import Advance, DataDescription, DataFacts, DataReport

if TYPE_CHECKING:
    from ray_darts.config.training import TrainingSettings

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

        return TextTrainingStreams(self, training, seed)

    @property
    def documents(self) -> dict[str, str]:
        """What a run needs beside its weights to read text."""
        return {"vocabulary.json": self.vocabulary.to_json()}

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


def check_text(settings: Text, advance: Advance) -> DataReport:
    """Read the train and validation text. Raises: DataError naming the file or package at fault."""
    source = open_text(settings)
    train, vocabulary = read_training_text(source.lines("train"), settings.vocabulary_size)
    advance(1, 2)
    validation = vocabulary.encode(source.lines("valid"))
    advance(2, 2)
    unknown = {name: int((text == 0).sum()) for name, text in (("train", train), ("validation", validation))}
    table = [
        ("train", f"{len(train):,} words, {unknown['train']:,} of them not in the vocabulary"),
        ("validation", f"{len(validation):,} words, {unknown['validation']:,} of them not in the vocabulary"),
        ("vocabulary", f"{len(vocabulary):,} words"),
        ("test", "there is one, not read here" if source.has("test") else "none"),
    ]
    figures = {
        "train_words": len(train),
        "validation_words": len(validation),
        "unknown_words": unknown,
        "vocabulary": len(vocabulary),
    }
    return DataReport(tuple(table), figures=figures)


class TextStreams:
    """SearchData over a TextSet for one seed.

    Both texts are cut into `search.batch_size` columns. A step's validation window starts at the place of its train
    window modulo the validation text's length, and is `bptt` long or cut at the end.
    """

    def __init__(self, data: TextSet, search: SearchSettings, seed: int) -> None:
        settings = data.settings
        self._data, self._seed, self._bptt = data, seed, settings.bptt
        train = columns(data.train, search.batch_size, "train", "search.batch_size")
        self._train = EpochWindows(train, settings.fraction, settings.bptt, seed, "train", full_or_half_windows)
        self._validation = columns(data.validation, search.batch_size, "validation", "search.batch_size")
        self._evaluation = columns(
            data.validation, settings.evaluation_batch_size, "validation", "data.evaluation_batch_size"
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

    def num_steps(self, epoch: int) -> int:
        """The number of train windows of `epoch`, which varies."""
        return self._train.num_steps(epoch)

    def total_steps(self, epochs: int) -> int:
        """Draws the lengths of every epoch; `Text.mistakes` bounds their number."""
        return self._train.first_step(epochs)

    def bilevel_batches(self, epoch: int, index: int, shard: Shard, device: torch.device) -> tuple[Batch, Batch]:
        """The (train, validation) windows of step `index` of `epoch`; this shard's columns of each."""
        train = self._train.batch(epoch, index, shard, device)
        last, total = len(self._validation) - 1, self._validation.shape[1]
        start = self._train.place(epoch, index)[0] % last
        stop = min(start + self._bptt, last)
        draws = Draws(self._seed, "validation", train.draws.step, *shard.bounds(total), total)
        scale = (stop - start) / self._bptt
        return train, window(self._validation, start, stop, draws, device, scale=scale, starts_epoch=index == 0)

    def evaluation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """The validation text in `evaluation_batch_size` columns; a shard may hold no column (share 0)."""
        return windows_in_order(self._evaluation, self._bptt, "evaluation", shard, device)
