"""Pictures of the page of an experiment, to be looked at: `make screenshots STORE=results EXPERIMENT=NAME`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import sync_playwright

from ray_darts.artifacts.open import open_store
from ray_darts.report.page.making import PageMaker
from tests.browser.conftest import ARGUMENTS, CHROMIUM

FORMS: tuple[tuple[str, int, int, Literal["light", "dark"]], ...] = (
    ("light", 1280, 1000, "light"),
    ("dark", 1280, 1000, "dark"),
    ("phone", 380, 800, "light"),
)


def main(store: str, experiment: str, output: str = "build/screenshots") -> None:
    """Write the whole page in each form, and what a screen shows of it first."""
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    html = PageMaker(open_store(store), experiment).make().html
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        file = Path(made) / "page.html"
        file.write_text(html, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for name, width, height, scheme in FORMS:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(file.as_uri())
            page.wait_for_selector("html[data-ready]", timeout=60_000)
            page.screenshot(path=folder / f"{name}-first.png")
            page.screenshot(path=folder / f"{name}.png", full_page=True)
            page.close()
        browser.close()
    print(f"{2 * len(FORMS)} pictures in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
