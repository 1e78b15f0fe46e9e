"""Nothing in the package executes what it reads; shown on the syntax trees of all its modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ray_darts

PACKAGE = Path(ray_darts.__file__).parent
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "load"),
    ("torch", "save"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("numpy", "load"),
    ("np", "load"),
    ("pd", "read_pickle"),
    ("pandas", "read_pickle"),
}


def dangers(source: str) -> Iterator[str]:
    """Every place in a module that could execute data."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (f"import {a.name}" for a in node.names if a.name.partition(".")[0] in FORBIDDEN_IMPORTS)
        elif isinstance(node, ast.ImportFrom):
            root = (node.module or "").partition(".")[0]
            if root in FORBIDDEN_IMPORTS:
                yield f"from {node.module} import"
            yield from (f"{root}.{a.name}" for a in node.names if (root, a.name) in FORBIDDEN_ATTRIBUTES)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            yield f"{node.func.id}(…) in line {node.lineno}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in FORBIDDEN_ATTRIBUTES:
                yield f"{node.value.id}.{node.attr} in line {node.lineno}"
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield f"allow_pickle in line {node.lineno}"


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_every_module_of_the_package_is_looked_at() -> None:
    names = {path.relative_to(PACKAGE).parts[0] for path in MODULES}
    assert {"artifacts", "cli", "config", "data", "genotype", "orchestration", "search", "spaces"} <= names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_executes_what_it_reads(path: Path) -> None:
    assert list(dangers(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import a, dill as d",
        "from pickle import loads",
        "from torch import load",
        "import torch\ntorch.load('x')",
        "eval('1')",
        "exec(text)",
        "yaml.load(text)",
        "np.load(file, allow_pickle=True)",
        "reader(file, allow_pickle=True)",
    ],
)
def test_the_walk_sees_each_danger(source: str) -> None:
    assert list(dangers(source))
