"""Text larger than memory and text in pieces of a tokeniser: the same windows from a mapped file, through kills."""

from __future__ import annotations

import signal
import subprocess
import sys
import tracemalloc
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_darts.config import load_config
from ray_darts.data.batch import Shard
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.sources import open_text
from ray_darts.data.text.streams import TextSet, load_text
from ray_darts.data.text.test_set import load_test_text
from ray_darts.errors import ConfigError, DataError
from tests.data import loading
from tests.data.loading import assert_equal
from tests.data.settings import text_config

batches = partial(loading.batches, search=text_config(4, bptt=7, evaluation_batch_size=3).search)


def write(folder: Path, lines: int = 300) -> Path:
    folder.mkdir(exist_ok=True)
    draws = np.random.default_rng(0)
    for name, number in (("train", lines), ("valid", lines // 2), ("test", 20)):
        rows = (" ".join(f"w{word}" for word in draws.geometric(0.05, draws.integers(0, 9))) for _ in range(number))
        (folder / f"{name}.txt").write_text("\n".join(rows))
    return folder


def load(path: Path, limit: int = 10**9, **settings: object) -> TextSet:
    plain = {"source": "files", "path": str(path), "vocabulary_size": 40, "bptt": 7, "evaluation_batch_size": 3}
    return load_text(Text.model_validate({**plain, "cache_path": str(path.parent / "cache"), **settings}), limit)


def test_mapped_text_has_the_same_windows_at_any_world_size(tmp_path: Path) -> None:
    path = write(tmp_path / "text")
    memory, mapped = load(path), load(path, loading="mapped")
    assert (mapped.digests, mapped.documents) == (memory.digests, memory.documents)
    assert isinstance(mapped.tokens.train, np.memmap)
    whole = batches(memory)
    assert_equal(batches(mapped), whole)
    shards = [batches(mapped, Shard(rank, 3)) for rank in range(3)]
    for number, batch in enumerate(whole):
        assert torch.equal(torch.cat([shard[number].inputs for shard in shards], dim=1), batch.inputs)
    opened = [load_test_text(data) for data in (memory, mapped)]
    assert opened[0] is not None
    assert opened[1] is not None
    assert opened[0].digest == opened[1].digest
    (note,) = mapped.facts.description.notes
    assert note.startswith(f"word numbers are in {tmp_path / 'cache' / 'tokens-'}")


def test_text_is_mapped_where_it_takes_a_quarter_of_the_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "text")
    needed = 4 * sum((path / f"{name}.txt").stat().st_size for name in ("train", "valid"))
    assert not isinstance(load(path, 4 * needed).tokens.train, np.memmap)
    assert isinstance(load(path, 4 * needed - 1).tokens.train, np.memmap)
    small: dict[str, object] = {"cache_bytes": 10, "cache_path": str(tmp_path / "small")}
    assert not isinstance(load(path, needed, **small).tokens.train, np.memmap)
    with pytest.raises(DataError, match=r"GB in data\.cache_path .* may be used \(data\.cache_bytes\)"):
        load(path, needed - 1, **small)
    with pytest.raises(DataError, match=r'the text .* needs .*set data\.loading = "mapped", or use less text'):
        load(path, needed - 1, loading="memory")


def test_changed_text_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "text")
    first = load(path, loading="mapped")
    assert load(path, loading="mapped").tokens.notes == first.tokens.notes
    with (path / "valid.txt").open("a") as text:
        text.write(" one more")
    assert load(path, loading="mapped").digests == load(path).digests != first.digests


def test_a_reader_that_was_killed_is_gone_on_from(tmp_path: Path) -> None:
    path = write(tmp_path / "text")
    program = f"""
import os, signal
from pathlib import Path
from typing import Any
from ray_darts.data.text import tokens
from tests.data.test_large_text import load
def killed(*arguments):
    (arguments[3] / "train").write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
tokens._encode = killed
load(Path({str(path)!r}), loading="mapped")
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    assert_equal(batches(load(path, loading="mapped")), batches(load(path)))


def test_a_line_of_any_length_streams_by(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.mkdir()
    words = [f"w{number % 97}" for number in range(3_000_000)]
    (path / "train.txt").write_text(" ".join(words))
    (path / "valid.txt").write_text("w1 w2 w3\n" * 10)
    del words
    tracemalloc.start()
    try:
        source = open_text(Text(source="files", path=str(path)))
        found = sum(map(len, source.words("train")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == 3_000_001
    assert peak < 80e6, "a chunk's words; all of them take 170 MB"
    data = load(path, loading="mapped", vocabulary_size=1000)
    assert data.tokens.train[:3].tolist() == [data.vocabulary.words.index(word) for word in ("w0", "w1", "w2")]


def test_bytes_without_any_white_space_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_darts.data.text.sources._LONGEST_WORD", 1000)
    (tmp_path / "train.txt").write_text("a" * 2000)
    with pytest.raises(DataError, match=r"train\.txt has a word of more than 1,000 characters: it is no text"):
        list(open_text(Text(source="files", path=str(tmp_path))).words("train"))


needs_tokenizers = pytest.mark.skipif(find_spec("tokenizers") is None, reason="the extra `tokenizers` is not installed")


def a_tokenizer(folder: Path) -> Path:
    """Byte-pair pieces of a small text, trained here; its unknown token is [UNK]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    tokenizer.train_from_iterator(["low lower lowest", "new newer newest"] * 5, trainer)
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    return file


@needs_tokenizers
def test_a_tokenizers_pieces_are_the_words_and_its_vocabulary_is_taken_whole(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    file = a_tokenizer(tmp_path)
    (tmp_path / "train.txt").write_text("lowest newer\n\nlow z\n" * 20)
    (tmp_path / "valid.txt").write_text("newest\n" * 20)
    settings = Text(source="files", path=str(tmp_path), tokenizer=str(file))
    own = Tokenizer.from_file(str(file))
    expected = [*own.encode("lowest newer", add_special_tokens=False).tokens, "<eos>", "<eos>", "low", "<unk>", "<eos>"]
    (words,) = open_text(settings).words("train")
    assert words[: len(expected)] == expected
    memory = load_text(settings, 10**9)
    pieces = own.get_vocab()
    assert memory.vocabulary.words[:2] == ("<unk>", "<eos>")
    assert memory.vocabulary.words[2:] == tuple(sorted(set(pieces) - {"[UNK]"}, key=pieces.__getitem__))
    place = {"loading": "mapped", "cache_path": str(tmp_path / "cache")}
    mapped = load_text(settings.model_copy(update=place), 10**9)
    assert mapped.digests == memory.digests
    assert mapped.tokens.train.tolist() == memory.tokens.train.tolist()
    assert memory.facts.num_classes == len(pieces) + 1


@needs_tokenizers
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    settings = Text(source="files", path=str(tmp_path), tokenizer=str(tmp_path / "t.json"))
    with pytest.raises(DataError, match=r"data\.tokenizer .*t\.json is no tokenizer\.json: "):
        open_text(settings)
    with pytest.raises(DataError, match=r"data\.tokenizer .*none\.json cannot be read: "):
        open_text(settings.model_copy(update={"tokenizer": str(tmp_path / "none.json")}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.tokenizer=t.json"], "tokenizer has no effect on source 'sotu'"),
        (["data.loading=mapped"], "loading has no effect on source 'sotu'"),
        (
            ["data.source=files", "data.path=x", "data.tokenizer=t.json", "data.vocabulary_size=50"],
            "vocabulary_size has no effect beside a tokenizer",
        ),
    ],
)
def test_settings_without_effect_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("sotu", overrides=settings)


@pytest.mark.parametrize("changed", [{"vocabulary_size": 12}, {"encoding": "latin-1"}])
def test_whatever_changes_words_has_an_entry_of_its_own(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = write(tmp_path / "text")
    with (path / "train.txt").open("a") as text:
        text.write(" caf\u00e9")
    plain = load(path, loading="mapped")
    other = load(path, loading="mapped", **changed)
    assert other.tokens.notes != plain.tokens.notes
    assert other.digests == load(path, **changed).digests
