"""Running text (word numbers) and the streams of a search over it.

Knows neither the sources of text, nor where word numbers are kept, nor the hidden state that is carried on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ray_darts.config.search import SearchSettings
from ray_darts.data.batch import Batch, Draws, Shard
from ray_darts.data.locations import S3Service, asked_service
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.sources import open_text
from ray_darts.data.text.tokens import Tokens, count_words, load_tokens
from ray_darts.data.text.training import TextTrainingStreams
from ray_darts.data.text.vocabulary import Vocabulary
from ray_darts.data.text.windows import (
    SHORTEST_WINDOW,
    EpochWindows,
    columns,
    full_or_half_windows,
    window,
    windows_in_order,
)
from ray_darts.protocols.dataset import Advance, DataDescription, DataFacts, DataReport

if TYPE_CHECKING:
    from ray_darts.config.training import TrainingSettings


@dataclass(frozen=True)
class TextSet:
    """Word numbers of the whole train and validation texts, and the vocabulary, counted on the train text.

    `s3`: opens the s3:// path again for the test text.
    """

    tokens: Tokens
    digests: dict[str, str]
    settings: Text
    s3: S3Service | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """Its words."""
        return self.tokens.vocabulary

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
        tokens = self.tokens
        about = DataDescription(
            memory_bytes=tokens.memory_bytes, loading_bytes=tokens.loading_bytes, notes=tokens.notes
        )
        return DataFacts(num_classes=len(self.vocabulary), description=about)


def load_text(settings: Text, memory_limit_bytes: int) -> TextSet:
    """Read the train and validation text of `settings` and count the vocabulary. Does not read the test text.

    Raises: DataError naming the file or package at fault.
    """
    tokens = load_tokens(settings, open_text(settings), memory_limit_bytes)
    digests = {"data": tokens.digest, "vocabulary": tokens.vocabulary.digest()}
    return TextSet(tokens, digests, settings, asked_service())


def check_text(settings: Text, advance: Advance) -> DataReport:
    """Read the train and validation text. Raises: DataError naming the file or package at fault."""
    source = open_text(settings)
    vocabulary = source.vocabulary
    train = count_words(source.words("train"))
    if vocabulary is None:
        vocabulary = Vocabulary.of_counts(train, settings.vocabulary_size)
    advance(1, 2)
    validation = count_words(source.words("valid"))
    advance(2, 2)
    known = {*vocabulary.words[1:]}
    unknown = {
        name: sum(count for word, count in counts.items() if word not in known)
        for name, counts in (("train", train), ("validation", validation))
    }
    table = [
        ("train", f"{train.total():,} words, {unknown['train']:,} of them not in the vocabulary"),
        ("validation", f"{validation.total():,} words, {unknown['validation']:,} of them not in the vocabulary"),
        ("vocabulary", f"{len(vocabulary):,} words"),
        ("test", "there is one, not read here" if source.has("test") else "none"),
    ]
    figures = {
        "train_words": train.total(),
        "validation_words": validation.total(),
        "unknown_words": unknown,
        "vocabulary": len(vocabulary),
    }
    counts = (("train", train.total(), 1), ("validation", validation.total(), settings.evaluation_batch_size))
    problems = tuple(
        f"the {what} text has {words:,} words, too few for {num_columns} columns of more than {SHORTEST_WINDOW}"
        for what, words, num_columns in counts
        if words // num_columns <= SHORTEST_WINDOW
    )
    return DataReport(tuple(table), problems, len(problems), bool(problems), figures=figures)


class TextStreams:
    """SearchData over a TextSet for one seed.

    Both texts are cut into `search.batch_size` columns. A step's validation window starts at the place of its train
    window modulo the validation text's length, and is `bptt` long or cut at the end.
    """

    def __init__(self, data: TextSet, search: SearchSettings, seed: int) -> None:
        settings = data.settings
        self._data, self._seed, self._bptt = data, seed, settings.bptt
        train = columns(data.tokens.train, search.batch_size, "train", "search.batch_size")
        self._train = EpochWindows(train, settings.fraction, settings.bptt, seed, "train", full_or_half_windows)
        self._validation = columns(data.tokens.validation, search.batch_size, "validation", "search.batch_size")
        self._evaluation = columns(
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

    def num_steps(self, epoch: int) -> int:
        """The number of train windows of `epoch`, which varies."""
        return self._train.num_steps(epoch)

    def total_steps(self, epochs: int) -> int:
        """Draws the lengths of every epoch."""
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
