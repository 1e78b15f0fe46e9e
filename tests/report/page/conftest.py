"""A store with two finished runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ray_darts.artifacts.open import open_store
from tests.report.page.experiments import whole_experiment


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs."""
    folder = tmp_path_factory.mktemp("shown")
    whole_experiment(open_store(str(folder)), 2)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(written, tmp_path / "store"))
