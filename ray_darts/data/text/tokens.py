"""Where the word numbers of a text are: in memory, or in files that the workers of a node share, made once.

The vocabulary is counted as the text streams by, so that only its words have to fit the memory.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.cache import NoCacheRoom, open_cache
from ray_darts.data.memory import HELD_SHARE, check_memory, gigabytes
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.sources import Split, TextSource
from ray_darts.data.text.vocabulary import Vocabulary, read_training_text
from ray_darts.errors import DataError

MEMORY_PER_TEXT_BYTE = 4  # a word has at least two bytes with its separator, and is numbered twice in int32
_VERSION = 1
_VOCABULARY = "vocabulary.json"
_SPLITS: tuple[Split, Split] = ("train", "valid")


@dataclass(frozen=True)
class Tokens:
    """Word numbers (int32) of the train and validation text. `digest`: of both; `memory_bytes`, `loading_bytes`: held
    by a worker, and its peak; `keep`: what must live as long as they are used."""

    train: NDArray[np.int32]
    validation: NDArray[np.int32]
    vocabulary: Vocabulary
    digest: str
    memory_bytes: int
    loading_bytes: int
    notes: tuple[str, ...] = ()
    keep: object = None


def load_tokens(settings: Text, source: TextSource, memory_limit_bytes: int) -> Tokens:
    """Load as `data.loading` says; "auto": in memory up to a quarter of what is free, else mapped where there is room.

    Raises: DataError naming the file at fault, or the room that is missing.
    """
    size = sum(source.num_bytes(split) for split in _SPLITS)
    needed = size * MEMORY_PER_TEXT_BYTE
    may_map = settings.loading == "mapped" or (settings.loading == "auto" and settings.is_in_files)
    if may_map and (settings.loading == "mapped" or needed > HELD_SHARE * memory_limit_bytes):
        try:
            return _mapped(settings, source)
        except NoCacheRoom:
            if settings.loading == "mapped" or needed > memory_limit_bytes:
                raise
    advice = 'set data.loading = "mapped", or use less text' if settings.is_in_files else "use less text"
    check_memory(needed, memory_limit_bytes, f"the text ({size} bytes)", advice)
    return _in_memory(settings, source, needed)


def text_digest(*texts: NDArray[np.int32]) -> str:
    """SHA-256 (hex) of the length and the word numbers of each text."""
    digest = hashlib.sha256()
    for tokens in texts:
        digest.update(len(tokens).to_bytes(8, "little"))
        digest.update(tokens.astype("<i4").tobytes())
    return digest.hexdigest()


def count_words(texts: Iterable[list[str]]) -> Counter[str]:
    """How often each word occurs."""
    counts: Counter[str] = Counter()
    for words in texts:
        counts.update(words)
    return counts


def _in_memory(settings: Text, source: TextSource, needed: int) -> Tokens:
    vocabulary = source.vocabulary
    if vocabulary is None:
        train, vocabulary = read_training_text(source.words("train"), settings.vocabulary_size)
    else:
        train = vocabulary.encode(source.words("train"))
    validation = vocabulary.encode(source.words("valid"))
    held = train.nbytes + validation.nbytes
    return Tokens(train, validation, vocabulary, text_digest(train, validation), held, needed)


def _mapped(settings: Text, source: TextSource) -> Tokens:
    cache = open_cache(settings.cache_path, settings.cache_bytes)
    parts = _VERSION, source.fingerprint, settings.vocabulary_size, settings.encoding
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
    counted = cache.open(f"words-{key}", 0, lambda folder: _count(settings, source, folder))
    vocabulary = Vocabulary.from_json((counted.folder / _VOCABULARY).read_text(encoding="utf-8"))
    lengths: dict[Split, int] = counted.facts["lengths"]
    num_bytes = 4 * sum(lengths.values())

    def encode(folder: Path) -> Mapping[str, Any]:
        return _encode(source, vocabulary, lengths, folder)

    entry = cache.open(f"tokens-{key}", num_bytes, encode)
    # copy on write, for PyTorch knows no array that cannot be written
    train, validation = (np.memmap(entry.folder / split, "<i4", mode="c", shape=(lengths[split],)) for split in _SPLITS)
    note = f"word numbers are in {entry.folder} ({gigabytes(num_bytes)} GB), which the workers of a node share"
    return Tokens(train, validation, vocabulary, entry.facts["digest"], 0, 0, (f"{note} (data.loading)",), entry)


def _count(settings: Text, source: TextSource, folder: Path) -> Mapping[str, Any]:
    """Write the vocabulary of the train text; count the words of both."""
    counts = count_words(source.words("train"))
    vocabulary = source.vocabulary
    if vocabulary is None:
        vocabulary = Vocabulary.of_counts(counts, settings.vocabulary_size)
    (folder / _VOCABULARY).write_text(vocabulary.to_json(), encoding="utf-8")
    validation = sum(len(words) for words in source.words("valid"))
    return {"lengths": {"train": counts.total(), "valid": validation}}


def _encode(
    source: TextSource, vocabulary: Vocabulary, lengths: Mapping[Split, int], folder: Path
) -> Mapping[str, Any]:
    """Write the word numbers of both texts. Raises: OSError."""
    digest = hashlib.sha256()
    for split in _SPLITS:
        digest.update(lengths[split].to_bytes(8, "little"))
        written = 0
        with (folder / split).open("wb") as target:
            for words in source.words(split):
                tokens = vocabulary.encode([words]).astype("<i4").tobytes()
                digest.update(tokens)
                written += target.write(tokens)
        if written != 4 * lengths[split]:
            raise DataError(f"the {split} text changed while it was read: begin again")
    return {"digest": digest.hexdigest()}
