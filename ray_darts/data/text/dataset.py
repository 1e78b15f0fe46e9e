"""The settings of running text: source, vocabulary, windows. Imports no torch until text is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ray_darts.protocols.dataset import Advance, DataFacts, DataReport, Dataset, LoadedData

if TYPE_CHECKING:
    import torch

    from ray_darts.config.search import SearchSettings
    from ray_darts.data.batch import Batch

_FEWEST_COLUMNS = 2
"""Columns of a shard that the statistics of a batch norm need."""
_PUBLISHED_WORDS = {"ptb": 10_000, "wikitext-2": 33_278}
"""Words of the whole vocabularies of published texts, <unk> and <eos> included."""


class Text(Dataset):
    """Running text; `<eos>` ends a line, words outside the vocabulary become `<unk>`."""

    form: ClassVar[str] = "text"
    UNCOMPARED: ClassVar[frozenset[str]] = Dataset.UNCOMPARED | {
        "encoding",
        "tokenizer",
        "loading",
        "cache_path",
        "cache_bytes",
    }
    PLACES: ClassVar[tuple[str, ...]] = (*Dataset.PLACES, "tokenizer")
    ADDED: ClassVar[frozenset[str]] = frozenset({"test_batch_size"})

    kind: Literal["text"] = "text"
    source: Literal["sotu", "ptb", "wikitext-2", "files"] = "sotu"
    path: str | None = None
    tokenizer: str | None = Field(
        None, description="a tokenizer.json, whose pieces are the words and whose vocabulary is taken whole"
    )
    encoding: str = Field("utf-8", description="of files; a byte order mark of UTF-8 is no part of the text")
    vocabulary_size: int = Field(10_000, ge=3, description="most frequent words kept, <unk> and <eos> included")
    fraction: float = Field(
        1.0, gt=0, le=1, description="share of the train text that is used: the first rows of all columns"
    )
    loading: Literal["auto", "memory", "mapped"] = Field(
        "auto",
        description="word numbers in memory, or in files that the workers of a node share; auto: in memory up to a "
        "quarter of what is free, else mapped where cache_path has room",
    )
    cache_path: str = Field("~/.cache/ray_darts/data", description="folder on each node's own disk, for mapped text")
    cache_bytes: int | None = Field(
        None, ge=0, description="most bytes below cache_path; absent: half of the free space of its disk"
    )
    bptt: int = Field(35, ge=2, description="mean sequence length; one in twenty sequences is half as long")
    evaluation_batch_size: int = Field(10, ge=2)
    test_batch_size: int = Field(1, ge=1, description="columns of the test text")

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            "a".encode(name)
        except (LookupError, ValueError) as error:
            raise ValueError(f"{error}; such as utf-8, latin-1, cp1252 or utf-16") from error
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Text:
        given = {
            "encoding": self.encoding != "utf-8",
            "tokenizer": self.tokenizer,
            "path": self.path,
            "loading": self.loading == "mapped",
        }
        for name, is_given in given.items():
            if is_given and not self.is_in_files:
                raise ValueError(f"{name} has no effect on source {self.source!r}: leave it out")
        if self.is_in_files and self.path is None:
            raise ValueError(f"source {self.source!r} needs data.path")
        if self.tokenizer is not None and self.vocabulary_size != type(self).model_fields["vocabulary_size"].default:
            raise ValueError("vocabulary_size has no effect beside a tokenizer, whose vocabulary is taken whole")
        return self

    @property
    def is_in_files(self) -> bool:
        """Whether the text is no part of an installed package."""
        return self.source in ("wikitext-2", "files")

    def load(self, memory_limit_bytes: int) -> LoadedData:
        """Read the train and validation text and count the vocabulary. Raises: DataError."""
        from ray_darts.data.text.streams import load_text

        return load_text(self, memory_limit_bytes)

    def check(self, advance: Advance) -> DataReport:
        """Words of each text and of the vocabulary."""
        from ray_darts.data.text.streams import check_text

        return check_text(self, advance)

    def dummy_batch(self, facts: DataFacts, num_samples: int, dtype: torch.dtype) -> Batch:
        """The first word of the vocabulary, repeated `bptt` times in each column [T, N]."""
        import torch

        from ray_darts.data.batch import Batch, Draws

        tokens = torch.zeros(self.bptt, num_samples, dtype=torch.int64)
        draws = Draws(0, "dummy", 0, 0, num_samples, num_samples)
        return Batch(tokens, tokens, draws, batch_dim=1, starts_epoch=True)

    def facts_unread(self) -> DataFacts | None:
        """The vocabularies of published texts."""
        if self.tokenizer is not None:
            return None
        words = _PUBLISHED_WORDS.get(self.source)
        return None if words is None else DataFacts(min(words, self.vocabulary_size))

    def mistakes(self, search: SearchSettings, workers: int) -> Iterator[str]:
        """Batch norm takes statistics over columns: each worker needs two of them in every micro-batch."""
        shard = search.batch_size // workers
        if shard >= search.accumulate and shard // search.accumulate < _FEWEST_COLUMNS:
            yield "batch norm on text needs 2 columns in each micro-batch of each worker: raise search.batch_size"
        if self.evaluation_batch_size < _FEWEST_COLUMNS * workers:
            yield (
                f"data.evaluation_batch_size {self.evaluation_batch_size} leaves a worker fewer than 2 columns, "
                f"too few for batch norm ({workers} workers)"
            )
