"""Private modules of Ray are imported in one file, which names the version that it was read in."""

from __future__ import annotations

import ast
import importlib.metadata
from pathlib import Path

import pytest

import ray_darts
from ray_darts.orchestration import ray_internals

PACKAGE = Path(ray_darts.__path__[0])
ALLOWED = PACKAGE / "orchestration" / "ray_internals.py"


def private_imports(source: str) -> list[str]:
    """Imports from Ray whose module or name is private: `_name`, `internal...` or `ray.train.v2`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [name for name in names if name.split(".")[0] == "ray" and _is_private(name)]
    return found


def _is_private(name: str) -> bool:
    return name.startswith("ray.train.v2") or any(part.startswith(("_", "internal")) for part in name.split("."))


def test_no_other_file_imports_what_is_private_in_ray() -> None:
    offending = {
        str(file.relative_to(PACKAGE)): imports
        for file in PACKAGE.rglob("*.py")
        if file != ALLOWED and (imports := private_imports(file.read_text(encoding="utf-8")))
    }
    assert offending == {}


@pytest.mark.parametrize(
    "line",
    [
        "from ray._private.state import state",
        "from ray.train.v2.api.config import RunConfig",
        "from ray.experimental.internal_kv import _internal_kv_get",
        "def f():\n    import ray._raylet",
    ],
)
def test_the_check_sees_a_private_import(line: str) -> None:
    assert private_imports(line)


def test_the_installed_ray_is_the_version_that_the_file_was_read_in() -> None:
    assert importlib.metadata.version("ray").startswith(f"{ray_internals.RAY_VERSION}.")
