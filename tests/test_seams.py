"""No room but its own names a space or a method: the rest of the package works for those that users bring.

Checked in the source: string constants that are a name, and identifiers, attributes and import paths that contain one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ray_darts

ROOT = Path(ray_darts.__path__[0])
SPACES = ("convolutional", "recurrent", "nasbench201")
METHODS = (
    "darts",
    "random",
    "pc-darts",
    "gdas",
    "drnas",
    "fair-darts",
    "beta-darts",
    "sdarts-rs",
    "sdarts-adv",
    "darts-minus",
    "lambda-darts",
    "darts-pt",
)
REGISTRATION = "protocols/registry.py"
"""Lists what the package brings; the one file that must name everything."""
COMMON_WORDS = {"darts": "Darts", "random": "RandomSearch"}
"""{name: class} of methods whose names are also the package's or a common word: of identifiers and import paths, only
`methods.<name>` and the class say that the method is meant."""

OLD_NAMES: frozenset[str] = frozenset({"cli/best.py"})
"""`--format darts`, the name that `--format text` had in 0.1; it works until 0.3."""


def sources(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """(path below the package, text) of every module."""
    for file in sorted(root.rglob("*.py")):
        yield file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")


def foreign(path: str) -> frozenset[str]:
    """The names that a module may not use: all but those of its own room."""
    if path == REGISTRATION:
        return frozenset()
    room, _, rest = path.partition("/")
    own = {rest.partition("/")[0]} if room == "spaces" else set(METHODS) if room == "methods" else set()
    return frozenset({*SPACES, *METHODS} - own)


def offences(text: str, refused: frozenset[str]) -> list[str]:
    """`line: what` for each place in the code that names one of `refused`; docstrings and comments are left out."""
    tree = ast.parse(text)
    docstrings = {id(node) for node in _docstrings(tree)}
    found = []
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        constants, identifiers = _words(node)
        found += [(node, word) for word in constants if word in refused]
        found += [(node, word) for word in identifiers if any(_names(word, name) for name in refused)]
    lines = {(getattr(node, "lineno", 0), word) for node, word in found}
    return [f"{line}: {word}" for line, word in sorted(lines)]


def _names(word: str, name: str) -> bool:
    """Whether an identifier or dotted path names a space or method."""
    if name in COMMON_WORDS:
        return f"methods.{name}" in word or word.rpartition(".")[2] == COMMON_WORDS[name]
    return name in word.lower()


def _words(node: ast.AST) -> tuple[list[str], list[str]]:
    """(string constants, identifiers and dotted paths) of one node of the tree."""
    match node:
        case ast.Constant(value=str(text)):
            return [text], []
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
            return [], [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [], [name]
        case ast.Import(names=aliases):
            return [], [alias.name for alias in aliases]
        case ast.ImportFrom(module=module, names=aliases):
            return [], [f"{module or ''}.{alias.name}" for alias in aliases]
    return [], []


def _docstrings(tree: ast.Module) -> Iterator[ast.AST]:
    """Every text that stands alone as a statement: of modules, classes, functions, and below assignments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value


def test_no_room_names_a_space_or_a_method_of_another() -> None:
    found = {path: offences(text, foreign(path)) for path, text in sources()}
    assert {path: places for path, places in found.items() if places and path not in OLD_NAMES} == {}


def test_no_file_is_longer_than_300_lines() -> None:
    files = [
        file for room in (ROOT, Path(__file__).parent) for kind in ("*.py", "*.cpp", "*.h") for file in room.rglob(kind)
    ]
    lengths = {str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert len(lengths) > 300
    assert {file: length for file, length in lengths.items() if length > 300} == {}


def test_an_old_name_is_one_place() -> None:
    texts = dict(sources())
    assert {path: len(offences(texts[path], foreign(path))) for path in OLD_NAMES} == dict.fromkeys(OLD_NAMES, 1)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('if space.kind == "recurrent":\n    pass\n', ["1: recurrent"]),
        (
            "from ray_darts.spaces.convolutional.space import OPERATIONS\n",
            ["1: ray_darts.spaces.convolutional.space.OPERATIONS"],
        ),
        ("import ray_darts.spaces.recurrent.space as space\n", ["1: ray_darts.spaces.recurrent.space"]),
        ("from ray_darts.spaces import recurrent\n", ["1: ray_darts.spaces.recurrent"]),
        ("from ray_darts.methods import darts\n", ["1: ray_darts.methods.darts"]),
        ("import ray_darts.methods.darts as method\n", ["1: ray_darts.methods.darts"]),
        ("def f(method):\n    return isinstance(method, Darts)\n", ["2: Darts"]),
        ("from ray_darts.methods.random import below\n", ["1: ray_darts.methods.random.below"]),
        ('if method.kind == "random":\n    method = RandomSearch()\n', ["1: random", "2: RandomSearch"]),
        ("import random\nx = generator.random(3)\n", []),
        ("def f(space):\n    return isinstance(space, ConvolutionalSpace)\n", ["2: ConvolutionalSpace"]),
        ("def of(facts):\n    return facts.recurrent_cells\n", ["2: recurrent_cells"]),
        ("def read_nasbench201(file):\n    return open(file=file)\n", ["1: read_nasbench201"]),
        ("class RecurrentTable:\n    pass\n", ["1: RecurrentTable"]),
        ("f(recurrent=1)\n", ["1: recurrent"]),
        ('match kind:\n    case "darts":\n        pass\n', ["2: darts"]),
        ('LABELS = {"darts": 1}\n', ["1: darts"]),
        ('from ray_darts.config import load_config\nx = "ray-darts"\nray_darts.config\n', []),
        ('"""Of the recurrent space."""\n# convolutional\nx = 1\n"""Also of recurrent cells."""\n', []),
        ('x = "an old convolutional network"\n', []),
    ],
)
def test_the_check_sees_what_names_a_space_or_a_method_and_nothing_else(text: str, places: list[str]) -> None:
    assert offences(text, frozenset({*SPACES, *METHODS})) == places


def test_a_planted_offender_is_seen_in_its_file_and_a_rooms_own_name_is_not(tmp_path: Path) -> None:
    for path, name in (
        ("report/table.py", "convolutional"),
        ("spaces/recurrent/space.py", "convolutional"),
        ("spaces/convolutional/space.py", "convolutional"),
        ("methods/darts.py", "darts"),
        ("methods/other.py", "recurrent"),
        (REGISTRATION, "recurrent"),
    ):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"x = {name!r}\n")
    found = {path: offences(text, foreign(path)) for path, text in sources(tmp_path)}
    assert {path for path, places in found.items() if places} == {
        "methods/other.py",
        "report/table.py",
        "spaces/recurrent/space.py",
    }


def test_the_names_that_are_looked_for_are_those_of_the_registry() -> None:
    from ray_darts.protocols.registry import BUILT_IN

    assert set(BUILT_IN["space"]) <= set(SPACES)
    assert set(BUILT_IN["method"]) <= set(METHODS)
