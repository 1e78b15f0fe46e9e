"""One Chromium for all browser tests, driven by Playwright; they are skipped, with the reason, where it is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser without a window."""
    playwright: Any = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH (Debian: apt-get install --no-install-recommends chromium)")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an experiment with four finished runs, one under way and one that failed, and hostile names."""
    from ray_darts.artifacts.open import open_store
    from ray_darts.report.page.making import PageMaker
    from tests.report.page.experiments import EXPERIMENT, mixed_experiment

    folder = tmp_path_factory.mktemp("browsed")
    store = open_store(str(folder / "store"))
    mixed_experiment(store)
    file = folder / "page.html"
    file.write_text(PageMaker(store, EXPERIMENT).make().html, encoding="utf-8")
    return file
