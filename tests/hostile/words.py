"""Words that people mistype, paste or leave empty."""

from __future__ import annotations

import json
from pathlib import Path

from ray_darts.api import read_genotype
from tests.hostile.case import Case, Make, file

NAMELESS = json.dumps({**read_genotype("DARTS_V2").to_data(), "space": ""}).encode()
DIGITS = "9" * 5000
DRY = ("search", "--dry-run", "--preset", "digits")


def files(content: dict[str, bytes]) -> Make:
    def make(folder: Path) -> None:
        for name, text in content.items():
            (folder / name).write_bytes(text)

    return make


job = files({"job.toml": b'preset = "digits"\nseeds = 1\n', "list.toml": b'preset = "digits"\nseeds = [0, "x"]\n'})


def override(setting: str, phrase: str) -> Case:
    return Case((*DRY, "--set", setting), phrase)


WORDS = (
    override('search.epochs="3"', "search.epochs = '3': a whole number is wanted, not text"),
    override("search.epochs=true", "search.epochs = True: a whole number is wanted, not true or false"),
    override("search.epochs=3.0", "a whole number is wanted, not a number"),
    override("weights.learning_rate=true", "a number is wanted, not true or false"),
    override("weights.learning_rate=1e308", "at most 1e+200 is possible"),
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
    Case((*DRY, "--workers", "2:"), "is neither N nor MIN:MAX"),
    Case((*DRY, "--workers", "1_0"), "is neither N nor MIN:MAX"),
    Case((*DRY, "--seeds", DIGITS), "--seeds"),
    Case((*DRY, "--seeds", ""), "wanted a number of seeds"),
    Case((*DRY, "--seeds", "\u0663"), "wanted a number of seeds"),
    Case((*DRY, "--store", ""), "the store's name is empty (an unset variable?)"),
    Case((*DRY, "--seeds", "1,,2"), "wanted a number of seeds"),
    Case((*DRY, "--seeds", "0,18446744073709551616"), "a seed has at most"),
    Case((*DRY, "--address", ""), "the address is empty (an unset variable?)"),
    Case(("search", "--dry-run", "--preset", ""), "the preset's name is empty (an unset variable?)"),
    Case((*DRY, "--store", "s3:/bucket/x"), "wanted s3://bucket/prefix, file:///folder or a folder"),
    Case((*DRY, "--store", "file://host/x"), "wanted s3://bucket/prefix, file:///folder or a folder"),
    Case((*DRY, "--max-concurrent", "9" * 25), "less than or equal to 1000000"),
    override("operation.threads=999999999999", "less than or equal to 4096"),
    override("data.path='x\x1b'", "is not valid TOML"),
    override("plugins=['./bad_plug']", "wanted the name of a module"),
    override("plugins=['bad_plug.py']", "wanted the name of a module"),
    Case(
        ("search", "--dry-run", "--config", "a.toml"),
        "ended the program while it was imported",
        make=files({"a.toml": b'plugins = ["ends_hostile"]', "ends_hostile.py": b"raise SystemExit(0)"}),
    ),
    *(
        Case(
            ("submit", "--store", "s3://b/x", "--address", "http://127.0.0.1:9", "--installed", *more), phrase, make=job
        )
        for more, phrase in (
            (("job.tml",), "the words of the search: Got unexpected extra argument"),
            (("job.toml", "--", "--bogus", "1"), "No such option"),
            (("job.toml", "--", "--seeds"), "requires an argument"),
            (("job.toml", "job2.toml"), "Got unexpected extra argument"),
            (("job.toml", "--", "--store", "s3://b/y"), "give it once"),
            (("list.toml",), "seeds = [0, 'x']: a number, or a list of numbers is wanted"),
        )
    ),
    *(
        Case(("inspect", "DARTS_V2", "--preset", "digits", option, "9" * 12), "Input should be less than or equal to")
        for option in ("--classes", "--image-size", "--image-channels")
    ),
    Case(("show", "a.json"), "a.json: cells[0]", make=file("a.json", b'{"schema_version":1,"space":"x","cells":[1]}')),
    Case(("show", "a.json"), "the name of a space is wanted", make=file("a.json", NAMELESS)),
    Case((*DRY, "--store", "x" * 5000), "File name too long"),
    Case((*DRY, "--store", "~nouser/x"), "nouser"),
    override(r'data.path="a\u0000b"', r"data.path = 'a\x00b': text without a NUL character is wanted"),
    override("data.path=x", "source 'digits' takes no path"),
    Case((*DRY, "--store", "ftp://x"), "wanted s3://bucket/prefix or a folder"),
    Case((*DRY, "--name", "a\nb"), r"experiment 'a\nb' is not a valid name"),
    Case((*DRY, "--name", ""), "is not a valid name"),
    Case(("search", "--dry-run", "--preset", "x" * 100_000), "unknown preset 'xxx"),
    Case(
        ("search", "--dry-run", "--config", "empty.toml"),
        "the config file empty.toml has no settings",
        make=file("empty.toml", b"# nothing\n"),
    ),
    Case(
        ("search", "--dry-run", "--config", "a.toml"),
        "cannot read the config file a.toml: 'utf-8' codec",
        make=file("a.toml", b"a = '\xff'"),
    ),
    Case(
        ("search", "--dry-run", "--config", "a.toml"),
        "a.toml is nested too deep",
        make=file("a.toml", b"a = " + b"[" * 5000),
    ),
    Case(
        ("search", "--dry-run", "--config", "a.toml"),
        "a.toml has a key of more than 20 parts",
        make=file("a.toml", b"a" + b".a" * 20_000 + b" = 1"),
    ),
    Case(
        ("search", "--dry-run", "--config", "a.toml"),
        "is longer than 1,048,576 bytes",
        make=file("a.toml", b"#" * (1 << 21)),
    ),
    Case(("search", "--dry-run", "--config", "/dev/zero"), "is longer than 1,048,576 bytes"),
    Case(("search", "--dry-run", "--config", "."), "cannot read the config file .: Is a directory"),
    Case(("search", "--dry-run", "--config", "none.toml"), "No such file or directory"),
    Case(("search", "--dry-run", "--config", "x" * 5000), "File name too long"),
    Case(("show", "DARTS_V9"), "is neither a file nor a published name"),
    Case(("show", "x" * 100_000), "is neither a file nor a published name"),
    Case(("show", "DARTS_V2", "--output", ""), "it is a folder, name a file in it"),
    Case(("show", "DARTS_V2", "--output", "none/a.svg"), "there is no folder"),
    Case(("show", "DARTS_V2", "--output", "/dev/full"), "No space left on device"),
    Case(("show", "DARTS_V2", "--output", "a.gif"), "drawings are .svg, .png, .pdf"),
    Case(("show", "DARTS_V2", "--output", "-", "--json"), "both would be written to standard output"),
    Case(("show", "DARTS_V2", "--space", "nothing"), "--space 'nothing': wanted"),
    Case(("status", "x", "--store", ""), "the store's name is empty"),
    Case(("status", "x", "--store", "file"), "is a file; wanted a folder", make=file("file", b"")),
    Case(("best", "../x", "--store", "folder"), "is not a valid name"),
    Case(("train", "none.json", "--store", "folder", "--preset", "digits"), "none.json"),
    Case(("presets", "nothing"), "unknown preset 'nothing'"),
)
