"""Words that people mistype, paste or leave empty: each has one message, an exit code, and bounds of time and memory.

A case is one line. Words go through the real command line in this process.
"""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.running import ray_darts

MOST_S, MOST_BYTES, LONGEST_MESSAGE = 10, 200_000_000, 2100
DIGITS = "9" * 5000
DRY = ("search", "--dry-run", "--preset", "digits")


class Case(NamedTuple):
    words: tuple[str, ...]
    phrase: str
    code: int = 2


def override(setting: str, phrase: str) -> Case:
    return Case((*DRY, "--set", setting), phrase)


CASES = (
    override('search.epochs="3"', "search.epochs = '3': a whole number is wanted, not text"),
    override("search.epochs=true", "search.epochs = True: a whole number is wanted, not true or false"),
    override("search.epochs=3.0", "a whole number is wanted, not a number"),
    override("weights.learning_rate=true", "a number is wanted, not true or false"),
    override("weights.learning_rate=1e308", "less than or equal to 1000000"),
    override("weights.learning_rate=nan", "a finite number"),
    override("weights.learning_rate=inf", "a finite number"),
    override("data.flip=yes", "data.flip = 'yes': true or false is wanted, not text"),
    override("data.flip=1", "true or false is wanted, not a whole number"),
    override("data.mean=['a']", "a number is wanted, not text"),
    override("search.epochs=1000000000", "less than or equal to 100000"),
    override("space.layers=100000", "less than or equal to 200"),
    override("space.channels=1000000000", "less than or equal to 4096"),
    override("search.batch_size=10000000000", "less than or equal to 1000000"),
    override(f"search.epochs={DIGITS}", "is not valid TOML: Exceeds the limit"),
    override(f"search.epochs=0x{DIGITS}", "a number of thousands of digits: Input should be"),
    override(f"search.epochs=0b{'1' * 50_000}", "a number of thousands of digits"),
    override("search.epochs=3\nsearch.batch_size=5", "one setting at a time"),
    override("search.epochs=x\nsearch.batch_size=5", "one setting at a time"),
    override("search.epochs", "wanted section.key=value"),
    override("=3", "wanted section.key=value"),
    override(".=3", "wanted section.key=value"),
    override(f"{'.'.join(['a'] * 20_000)}=1", "wanted section.key=value"),
    override("search.epoch=3", "there is no such setting, did you mean epochs?"),
    override("serach.epochs=3", "serach: there is no such setting, did you mean search?"),
    override("search.\x1b[31mred=3", r"search.'\x1b[31mred' = 3: there is no such setting"),
    override("search.a\nb=3", r"search.'a\nb' = 3: there is no such setting"),
    override(f"search.epochs={'x' * 100_000}", "(100002 characters): a whole number is wanted, not text"),
    override(f"search.{'x' * 100_000}=1", "(100000 characters) = 1: there is no such setting"),
    override("a=" + "[" * 5000, "is nested too deep"),
    override("a=" + "{a=" * 5000, "is nested too deep"),
    override("operation.workers=2:", "workers '2:' is neither N nor MIN:MAX"),
    override("operation.workers='1_0'", "workers '1_0' is neither N nor MIN:MAX"),
    override("operation.workers=\u0663", "workers '\u0663' is neither N nor MIN:MAX"),
    override(f"operation.workers='{DIGITS}'", "is neither N nor MIN:MAX"),
    override("space.kind=nothing", "nothing"),
    override("space=3", "wanted a section with kind"),
    override("data.path=~nouser/x", "data.path ~nouser/x: "),
    Case((*DRY, "--workers", "2:"), "is neither N nor MIN:MAX"),
    Case((*DRY, "--workers", "1_0"), "is neither N nor MIN:MAX"),
    Case((*DRY, "--seeds", DIGITS), "--seeds"),
    Case((*DRY, "--seeds", ""), "wanted a number of seeds"),
    Case((*DRY, "--seeds", "\u0663"), "wanted a number of seeds"),
    Case((*DRY, "--store", ""), "the store's name is empty (an unset variable?)"),
    Case((*DRY, "--store", "ftp://x"), "wanted s3://bucket/prefix or a folder"),
    Case((*DRY, "--name", "a\nb"), r"experiment 'a\nb' is not a valid name"),
    Case((*DRY, "--name", ""), "is not a valid name"),
    Case(("search", "--dry-run", "--preset", "x" * 100_000), "unknown preset 'xxx"),
    Case(("search", "--dry-run", "--config", "empty.toml"), "the config file empty.toml has no settings"),
    Case(("search", "--dry-run", "--config", "latin.toml"), "cannot read the config file latin.toml: 'utf-8' codec"),
    Case(("search", "--dry-run", "--config", "deep.toml"), "deep.toml is nested too deep"),
    Case(("search", "--dry-run", "--config", "dotted.toml"), "dotted.toml has a key of more than 20 parts"),
    Case(("search", "--dry-run", "--config", "large.toml"), "is longer than 1,048,576 bytes"),
    Case(("search", "--dry-run", "--config", "/dev/zero"), "is longer than 1,048,576 bytes"),
    Case(("search", "--dry-run", "--config", "."), "cannot read the config file .: Is a directory"),
    Case(("search", "--dry-run", "--config", "none.toml"), "No such file or directory"),
    Case(("search", "--dry-run", "--config", "x" * 5000), "File name too long"),
    Case(("show", "DARTS_V9"), "is neither a file nor a published name"),
    Case(("show", "deep.json"), "not the JSON of a genotype"),
    Case(("show", "empty.json"), "neither the JSON of a genotype nor the text form of a space: ''"),
    Case(("show", "x" * 100_000), "is neither a file nor a published name"),
    Case(("show", "DARTS_V2", "--output", ""), "it is a folder, name a file in it"),
    Case(("show", "DARTS_V2", "--output", "none/a.svg"), "there is no folder"),
    Case(("show", "DARTS_V2", "--output", "/dev/full"), "No space left on device"),
    Case(("show", "DARTS_V2", "--output", "a.png"), "drawings are SVG"),
    Case(("show", "DARTS_V2", "--output", "-", "--json"), "both would be written to standard output"),
    Case(("show", "DARTS_V2", "--space", "nothing"), "--space 'nothing': wanted"),
    Case(("status", "x", "--store", ""), "the store's name is empty"),
    Case(("status", "x", "--store", "file"), "is a file; wanted a folder"),
    Case(("best", "../x", "--store", "folder"), "is not a valid name"),
    Case(("train", "none.json", "--store", "folder", "--preset", "digits"), "none.json"),
    Case(("presets", "nothing"), "unknown preset 'nothing'"),
)


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """What commands import when they run is not counted."""
    import ray_darts.cli.dry_run  # noqa: F401


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    files = {
        "empty.toml": b"# nothing\n",
        "latin.toml": b"a = '\xff'",
        "deep.toml": b"a = " + b"[" * 5000,
        "dotted.toml": b".".join([b"a"] * 20_000) + b" = 1",
        "large.toml": b"#" * (1 << 21),
        "deep.json": b'{"a":' * 5000,
        "empty.json": b"",
        "file": b"",
    }
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "folder").mkdir()
    return place


@contextmanager
def bounded() -> Iterator[None]:
    """At most MOST_S seconds and MOST_BYTES of memory that Python knows of."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"took more than {MOST_S} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(MOST_S)
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _shown(case: Case) -> str:
    return " ".join(word if len(word) < 40 else f"{word[:20]}..{len(word)}" for word in case.words[-2:])


@pytest.mark.parametrize("case", CASES, ids=_shown)
def test_each_is_one_message(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with bounded():
        ran = ray_darts(*case.words)
    assert case.phrase in ran.stderr
    assert ran.code == case.code
    assert len(ran.stderr) <= LONGEST_MESSAGE
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""
    assert all(character == "\n" or character.isprintable() for character in ran.stderr)
