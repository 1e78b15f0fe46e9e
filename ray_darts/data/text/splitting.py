"""How text becomes words: at white space, or by a tokeniser file of the package `tokenizers`. Reads no text itself."""

from __future__ import annotations

from typing import Protocol

from ray_darts.data.text.vocabulary import END, UNKNOWN, Vocabulary
from ray_darts.errors import DataError


class Splitter(Protocol):
    """Splits parts of a text, each whole lines or a piece of a very long one."""

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Its words, where they do not depend on the text."""
        ...

    @property
    def fingerprint(self) -> str:
        """Another text where words would be others."""
        ...

    def split(self, part: str) -> list[str]:
        """The words of a part, with `<eos>` for each end of a line."""
        ...


class WhiteSpace:
    """Words as they stand between white space of any kind."""

    vocabulary = None
    fingerprint = "white space"

    def split(self, part: str) -> list[str]:
        return part.replace("\n", f" {END} ").split()


class TokeniserFile:
    """The pieces of a `tokenizer.json`, each line encoded by itself, without special tokens.

    The vocabulary is `<unk>`, `<eos>` and all pieces in the order of their ids; the tokeniser's own unknown token is
    `<unk>`. Raises: DataError where the package is missing or the file is none.
    """

    def __init__(self, content: bytes, name: str) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise DataError(f"data.tokenizer needs a package ({error}): pip install 'ray-darts[tokenizers]'") from error
        try:
            self._tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # the package raises nothing more special
            raise DataError(f"data.tokenizer {name} is no tokenizer.json: {error}", name=name) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        own_unknown = getattr(self._tokenizer.model, "unk_token", None)
        pieces = self._tokenizer.get_vocab(with_added_tokens=True)
        self._pieces = {number: UNKNOWN if piece == own_unknown else piece for piece, number in pieces.items()}
        ordered = [piece for _, piece in sorted(self._pieces.items()) if piece not in (UNKNOWN, END)]
        self.vocabulary = Vocabulary((UNKNOWN, END, *ordered))
        self.fingerprint = self.vocabulary.digest() + str(self._tokenizer.to_str())

    def split(self, part: str) -> list[str]:
        lines = part.split("\n")
        words: list[str] = []
        for encoded in self._tokenizer.encode_batch_fast(lines, add_special_tokens=False):
            words += map(self._pieces.__getitem__, encoded.ids)
            words.append(END)
        return words[:-1]  # the last line has no end
