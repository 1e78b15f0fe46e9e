"""A case of the corpus: words of the command line, the files that they speak of, and the one message they must get."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Make = Callable[[Path], object]
"""Makes the files of a case in the folder where its words are run."""


class Case(NamedTuple):
    """`phrase`: what standard error must hold; `code`: the exit code."""

    words: tuple[str, ...]
    phrase: str
    code: int = 2
    make: Make = lambda folder: None

    def __str__(self) -> str:
        name = " ".join(word if len(word) < 40 else f"{word[:20]}..{len(word)}" for word in self.words[-4:])
        return name if name.isprintable() and name.isascii() else ascii(name)


def file(name: str, content: bytes) -> Make:
    """Make one file."""
    return lambda folder: (folder / name).write_bytes(content)
