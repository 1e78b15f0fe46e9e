"""Words and their numbers: the most frequent of the train text, `<unk>` and `<eos>`, as a JSON document with a hash.

Knows lists of words, not their sources.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from ray_darts.errors import DataError

UNKNOWN = "<unk>"
END = "<eos>"
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Vocabulary:
    """`words[i]` is word number i: `<unk>`, `<eos>`, then by decreasing frequency, ties in alphabetical order."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[:2] != (UNKNOWN, END):
            raise DataError(f"a vocabulary starts with {UNKNOWN}, {END}, not with {', '.join(self.words[:2])}")
        if len(self._numbers) != len(self.words):
            raise DataError("a vocabulary names a word twice")

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def of_counts(cls, counts: Mapping[str, int], size: int) -> Vocabulary:
        """The `size` most frequent words, `<unk>` and `<eos>` included."""
        others = ((-count, word) for word, count in counts.items() if word not in (UNKNOWN, END))
        return cls((UNKNOWN, END, *(word for _, word in heapq.nsmallest(size - 2, others))))

    def encode(self, texts: Iterable[list[str]]) -> NDArray[np.int32]:
        """Number the words of `texts`, one after the other; words not listed become `<unk>`."""
        numbers = self._numbers
        return np.fromiter(map(numbers.get, chain.from_iterable(texts), repeat(0)), np.int32)

    def to_json(self) -> str:
        """The JSON document that is stored with an experiment."""
        return json.dumps({"schema_version": _SCHEMA_VERSION, "words": self.words}, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Read `to_json`'s form. Raises: DataError."""
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"a vocabulary is not valid JSON: {error}") from error
        if not isinstance(document, dict) or document.get("schema_version") != _SCHEMA_VERSION:
            raise DataError(f"a vocabulary needs schema_version {_SCHEMA_VERSION}; is it from a newer ray-darts?")
        words = document.get("words")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError("a vocabulary needs words, a list of strings")
        return cls(tuple(words))

    def digest(self) -> str:
        """SHA-256 (hex) of the JSON form."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def read_training_text(texts: Iterable[list[str]], vocabulary_size: int) -> tuple[NDArray[np.int32], Vocabulary]:
    """Number a text by its own `vocabulary_size` most frequent words, `<unk>` and `<eos>` included.

    One pass: words are numbered as they occur, counted, and renumbered by frequency.
    """
    first_seen = {UNKNOWN: 0, END: 1}
    words = chain.from_iterable(texts)
    tokens = np.fromiter((first_seen.setdefault(word, len(first_seen)) for word in words), np.int32)
    counts = np.bincount(tokens, minlength=len(first_seen)).tolist()
    vocabulary = Vocabulary.of_counts(dict(zip(first_seen, counts, strict=True)), vocabulary_size)
    return vocabulary.encode([list(first_seen)])[tokens], vocabulary
