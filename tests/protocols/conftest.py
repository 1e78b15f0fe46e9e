"""A test starts with what the package brings; its registrations and imports are undone after it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_darts.protocols import registry


@pytest.fixture(autouse=True)
def _nothing_stays_registered() -> Iterator[None]:
    registered = {kind: dict(things) for kind, things in registry._registered.items()}
    modules = set(sys.modules)
    for things in registry._registered.values():
        things.clear()
    yield
    for kind, things in registered.items():
        registry._registered[kind].clear()
        registry._registered[kind].update(things)
    for name in set(sys.modules) - modules:
        if not name.startswith(("ray_darts.", "tests.", "torch")) and getattr(sys.modules[name], "__file__", None):
            del sys.modules[name]
    assert registry._loading == []


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, which is not on the import path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    return tmp_path
