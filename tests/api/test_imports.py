"""What a fresh interpreter imports for the API."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import ray_darts
from ray_darts import api
from tests.cluster.files import ROOT


def _modules(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not {"torch", "ray", "pydantic", "pyarrow", "numpy"} & _modules("import ray_darts; dir(ray_darts)")


@pytest.mark.parametrize(
    "program",
    [
        "from ray_darts import Space, Method, Dataset, Operation, register, errors, search, open_experiment, decode",
        "import ray_darts; ray_darts.write_text('DARTS_V2')",
        "import ray_darts; ray_darts.decode('digits', [0.0] * 224)",
    ],
)
def test_names_and_genotypes_need_neither_torch_nor_ray(program: str) -> None:
    assert not {"torch", "ray", "pyarrow"} & _modules(program)


def test_every_exported_name_exists_and_others_do_not() -> None:
    for name in ray_darts.__all__:
        assert getattr(ray_darts, name) is not None
        assert name in dir(ray_darts)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        ray_darts.nonsense  # noqa: B018


@pytest.mark.parametrize("before", ["", "import ray_darts.search.loop", "ray_darts.search"])
def test_search_can_be_called_whether_or_not_the_package_of_its_name_is_imported(before: str) -> None:
    program = f"""
import ray_darts
{before}
from ray_darts import search
for function in (ray_darts.search, search):
    try:
        function("digits", seeds=0)
    except ray_darts.errors.ConfigError as error:
        assert "seeds = 0" in str(error)
    else:
        raise AssertionError
from ray_darts.search.loop import SearchLoop
"""
    _modules(program)


def test_search_has_the_signature_of_the_apis_function() -> None:
    assert inspect.signature(ray_darts.search) == inspect.signature(api.search)
