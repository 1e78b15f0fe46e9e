"""The page of an experiment in a real browser, from a file and with the network off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.writer import RunWriter
from ray_darts.report.page.making import PageMaker
from ray_darts.report.page.serving import PageServer
from tests.report.page.experiments import EXPERIMENT, advance, alphas_of, claimed, register, run_names, whole_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

Scheme = Literal["light", "dark"]


@contextmanager
def opened(browser: Browser, url: str, width: int = 1280, scheme: Scheme = "light") -> Iterator[Page]:
    """A page that must not complain, nor ask for anything but itself."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    asked: list[str] = []
    page = context.new_page()
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        context.set_offline(url.startswith("file:"))
        page.goto(url)
        ready(page)
        yield page
        assert complaints == []
        assert {each.partition("#")[0] for each in asked if not each.startswith(("data:", "blob:"))} <= {url}
    finally:
        context.close()


def ready(page: Page) -> None:
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    assert page.evaluate("document.documentElement.dataset.ready") == "true"


def in_file(page_file: Path) -> str:
    return page_file.as_uri()


def order_of(page: Page, column: int) -> list[str]:
    texts: list[str] = page.locator(f"#table tbody tr > :nth-child({column})").all_inner_texts()
    return texts


def test_it_opens_without_network_and_draws_the_best_run(browser: Browser, page_file: Path) -> None:
    with opened(browser, in_file(page_file)) as page:
        assert page.locator("#run-name").inner_text() == "second-order-seed-3"
        assert page.locator("#detail .tile svg").count() == 28
        assert page.locator("#detail .wide .plot svg").count() >= 8
        assert page.locator("#timeline svg").count() == 1


def test_the_slider_changes_the_cell_and_marks_what_changed(browser: Browser, page_file: Path) -> None:
    with opened(browser, in_file(page_file)) as page:
        said, drawing = page.locator("#detail output"), page.locator("#detail .drawing")
        last, before = said.inner_text(), drawing.inner_html()
        assert "epoch 4" in last
        page.locator("#epoch").focus()
        page.keyboard.press("Home")
        assert said.inner_text() == "epoch 0, after step 100"
        assert drawing.inner_html() != before
        assert page.locator("#detail .drawing .changed").count() == 0
        page.get_by_label("Later drawing").click()
        assert "epoch 1, after step 200; new since the drawing before: " in said.inner_text()
        marked = page.locator("#detail .drawing rect.changed").count()
        assert marked == said.inner_text().count("→") > 0
        widths = page.locator("#detail .drawing path[data-edge]").evaluate_all(
            "all => all.map(p => +p.getAttribute('stroke-width'))"
        )
        assert len(set(widths)) > 3


def test_a_click_and_a_key_open_a_run(browser: Browser, page_file: Path) -> None:
    with opened(browser, in_file(page_file)) as page:
        page.locator("tr[data-run=first-order-seed-0] td").nth(2).click()
        assert page.locator("#run-name").inner_text() == "first-order-seed-0"
        page.get_by_role("button", name="second-order-seed-1").focus()
        page.keyboard.press("Enter")
        assert page.locator("#run-name").inner_text() == "second-order-seed-1"
        assert page.evaluate("document.activeElement.id") == "run-name"


def test_runs_that_are_opened_one_after_the_other_at_once_do_not_mix(browser: Browser, page_file: Path) -> None:
    with opened(browser, in_file(page_file)) as page:
        page.evaluate("document.querySelectorAll('#table .open').forEach((button) => button.click())")
        page.wait_for_timeout(1000)
        last = page.locator("#table .open").last.inner_text()
        page.get_by_role("button", name="first-order-seed-0", exact=True).click()
        page.wait_for_function("document.querySelectorAll('#detail .tile svg').length >= 28")
        page.wait_for_timeout(1000)
        assert last != "first-order-seed-0"
        assert page.locator("#detail .tile").count() == 28
        assert page.locator("#detail h3").all_inner_texts() == [
            "first-order-seed-0",
            "Curves",
            "Probabilities of operations, edge by edge",
        ]


def test_headings_sort_and_empty_values_stay_last(browser: Browser, page_file: Path) -> None:
    with opened(browser, in_file(page_file)) as page:
        heading = page.get_by_role("button", name="supernet_validation_accuracy")
        heading.click()
        assert order_of(page, 6)[:4] == ["0.5", "0.501", "0.502", "0.503"]
        assert page.locator("th[aria-sort=ascending]").inner_text().startswith("supernet_validation_accuracy")
        heading.click()
        assert order_of(page, 6) == ["0.503", "0.502", "0.501", "0.5", "", ""]
        page.get_by_role("button", name="run", exact=True).click()
        assert order_of(page, 2) == sorted(order_of(page, 2))


def test_an_edge_opens_large(browser: Browser, page_file: Path) -> None:
    with opened(browser, in_file(page_file)) as page:
        tile = page.locator("#detail .tile").first
        small = tile.bounding_box()
        tile.click()
        page.wait_for_selector(".tile.large svg")
        large = tile.bounding_box()
        assert small is not None
        assert large is not None
        assert large["width"] > 2 * small["width"]
        assert large["height"] > 2 * small["height"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_in_one_direction_only(browser: Browser, page_file: Path, scheme: Scheme) -> None:
    with opened(browser, in_file(page_file), width=380, scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
        for tile in page.locator(".tile").all()[:3]:
            tile.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_hostile_names_stay_text(browser: Browser, page_file: Path) -> None:
    with opened(browser, in_file(page_file)) as page:
        for run in run_names(6):
            page.get_by_role("button", name=run, exact=True).click()
            page.wait_for_timeout(100)
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        assert page.locator("img").count() == 0
        assert page.title() == f"{EXPERIMENT} – ray_darts report"
        assert "<img src=x onerror=" in page.locator("main").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1280])
def test_axe_finds_nothing(browser: Browser, page_file: Path, width: int, scheme: Scheme) -> None:
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="the package axe-core-python is not installed")
    with opened(browser, in_file(page_file), width, scheme) as page:
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        found = axe.Axe().run(page)["violations"]
        assert [(each["impact"], each["id"], each["nodes"][0]["html"][:200]) for each in found] == []


def test_a_page_on_paper_shows_what_is_folded(browser: Browser, page_file: Path) -> None:
    with opened(browser, in_file(page_file)) as page:
        page.emulate_media(media="print")
        assert page.locator("#repeat pre").last.bounding_box() is not None
        assert page.locator("nav").is_hidden()


def test_a_page_keeps_its_place_while_a_search_runs(browser: Browser, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    names = run_names(4)
    register(store, names)
    for seed, run in enumerate(names[:3]):
        whole_run(store, run, seed)
    writer, alphas = claimed(store, names[3]), alphas_of(3, 30)
    advance(writer, alphas, 6, 6, 30)
    maker = PageMaker(store, EXPERIMENT)
    server = PageServer(lambda: maker.make(1), "127.0.0.1", 0, None, every_s=0.5)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        with opened(browser, server.url) as page:
            page.get_by_role("button", name="worker-hours").click()
            page.get_by_role("button", name="first-order-seed-0").click()
            page.locator("#epoch").focus()
            for key in ("Home", "ArrowRight"):
                page.keyboard.press(key)
            said = page.locator("#detail output").inner_text()
            page.evaluate("window.before = true; scrollTo(0, 700)")
            advance(writer, alphas, 12, 6, 30)
            page.wait_for_function("window.before === undefined", timeout=30_000)
            ready(page)
            assert page.locator("tr[data-run=second-order-seed-3]").inner_text().count("12 of 30") == 1
            assert page.locator("#run-name").inner_text() == "first-order-seed-0"
            assert page.locator("#detail output").inner_text() == said
            assert page.locator("th[aria-sort=ascending]").inner_text().startswith("worker-hours")
            page.wait_for_function("Math.abs(scrollY - 700) < 50", timeout=5_000)
    finally:
        server.stop()
        thread.join()


def growing(folder: Path) -> tuple[ObjectStore, RunWriter]:
    """A store with a run that has done one of five epochs."""
    store, run = open_store(str(folder / "store")), run_names(1)[0]
    register(store, [run])
    writer = claimed(store, run)
    advance(writer, alphas_of(0, 30), 6, 6, 30)
    return store, writer


def test_an_untouched_page_follows_the_last_cell(browser: Browser, tmp_path: Path) -> None:
    store, writer = growing(tmp_path)
    maker, file = PageMaker(store, EXPERIMENT), tmp_path / "page.html"
    file.write_text(maker.make(1).html, encoding="utf-8")
    with opened(browser, file.as_uri()) as page:
        assert page.locator("#detail output").inner_text().startswith("epoch 0")
        advance(writer, alphas_of(0, 30), 24, 6, 30)
        file.write_text(maker.make(1).html, encoding="utf-8")
        page.wait_for_function(
            "document.querySelector('#detail output')?.textContent.startsWith('epoch 3')", timeout=30_000
        )


def test_a_file_that_is_written_again_is_loaded_again(browser: Browser, tmp_path: Path) -> None:
    store, _ = growing(tmp_path)
    maker, file = PageMaker(store, EXPERIMENT), tmp_path / "page.html"
    file.write_text(maker.make(1).html, encoding="utf-8")
    with opened(browser, file.as_uri()) as page:
        whole_run(store, run_names(1)[0], 0, session="7" * 32)
        file.write_text(maker.make(1).html, encoding="utf-8")
        page.wait_for_selector("td.state-finished", timeout=30_000)
        ready(page)
        page.evaluate("window.last = true")
        page.wait_for_timeout(2500)
        assert page.evaluate("window.last")
