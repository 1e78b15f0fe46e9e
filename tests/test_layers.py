"""Arrows point one way: each layer is imported in a fresh interpreter and must not bring what it refuses to know."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import ray_darts

PLAIN = {"torch", "ray", "boto3", "pyarrow", "numpy"}
REFUSED = {
    "errors": PLAIN | {"pydantic"},
    "exit_codes": PLAIN | {"pydantic", "typer"},
    "protocols": PLAIN,
    "api": PLAIN | {"pydantic"},
    "experiment": PLAIN | {"pydantic"},
    "searches": PLAIN | {"pydantic"},
    "trainings": PLAIN | {"pydantic"},
    "architectures": PLAIN,
    "arguments": PLAIN,
    "deployment": PLAIN | {"pydantic"},
    "messages": PLAIN | {"pydantic"},
    "output_files": PLAIN | {"pydantic"},
    "input_files": PLAIN | {"pydantic"},
    "hosts": PLAIN | {"pydantic"},
    "extras": PLAIN | {"pydantic"},
    "config": PLAIN,
    "genotype": PLAIN,
    "methods": PLAIN,
    "report": {"torch", "ray", "boto3"},
    "sync": {"torch", "ray", "boto3", "tensorboard", "mlflow", "wandb"},
    "spaces": {"ray", "boto3", "ray_darts.search", "ray_darts.artifacts", "ray_darts.orchestration"},
    "data": {"ray", "boto3", "ray_darts.search", "ray_darts.artifacts", "ray_darts.spaces"},
    "search": {"ray", "boto3", "ray_darts.artifacts", "ray_darts.orchestration", "ray_darts.training"},
    "training": {"ray", "boto3", "ray_darts.artifacts", "ray_darts.orchestration", "ray_darts.search"},
    "tasks": {"ray", "boto3", "ray_darts.search", "ray_darts.artifacts", "ray_darts.orchestration"},
    "artifacts": {"torch", "ray", "ray_darts.search", "ray_darts.spaces", "ray_darts.data"},
}
SETTINGS = {
    "spaces/*/space.py": PLAIN,
    "data/*/dataset.py": PLAIN,
    "spaces/genotypes.py": PLAIN,
    "spaces/operations.py": PLAIN,
    "tasks/metrics.py": PLAIN | {"ray_darts.artifacts"},
    **{f"orchestration/{name}.py": {"torch"} for name in ("run", "restarts", "interfaces", "tune_sweep")},
}
"""Modules below a layer that refuse more than it does: a config and a genotype are read without torch, and a trial, one
for every run at work, holds no PyTorch."""


def modules_of(layer: str, root: Path = Path(ray_darts.__path__[0])) -> list[str]:
    """All modules of a layer, by name."""
    if (root / f"{layer}.py").exists():
        return [f"ray_darts.{layer}"]
    names = [entry.name for entry in pkgutil.walk_packages([str(root / layer)], f"ray_darts.{layer}.")]
    return [f"ray_darts.{layer}", *names]


def brought_in(modules: list[str], refused: set[str], before: str = "") -> list[str]:
    """Import `modules` in a fresh interpreter; return what of `refused` came with them."""
    script = (
        f"{before}\nimport sys\nfor name in {modules!r}:\n    __import__(name)\n"
        f"print(*sorted(name for name in {refused!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("layer", sorted(REFUSED))
def test_a_layer_brings_nothing_it_refuses_to_know(layer: str) -> None:
    assert brought_in(modules_of(layer), REFUSED[layer]) == []


@pytest.mark.parametrize("pattern", sorted(SETTINGS))
def test_what_describes_a_space_or_a_data_set_brings_no_torch(pattern: str) -> None:
    root = Path(ray_darts.__path__[0])
    files = sorted(root.glob(pattern))
    assert files
    for file in files:
        module = ".".join(("ray_darts", *file.relative_to(root).with_suffix("").parts))
        assert brought_in([module], SETTINGS[pattern]) == [], module


def test_the_check_sees_a_module_that_breaks_a_layer() -> None:
    assert brought_in(modules_of("genotype"), REFUSED["genotype"], before="import numpy") == ["numpy"]


def test_every_room_of_the_package_is_checked_or_at_the_top() -> None:
    rooms = {entry.name for entry in pkgutil.iter_modules([str(Path(ray_darts.__path__[0]))])}
    assert rooms - set(REFUSED) == {"__main__", "cli", "orchestration"}
