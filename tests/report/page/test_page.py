"""The page of synthetic experiments: its data against the store, its text against names that would be markup."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.sessions import SessionFacts, register_session
from ray_darts.config import load_config
from ray_darts.errors import MissingObject
from ray_darts.genotype.decode import softmax
from ray_darts.report.page.making import Page, PageMaker, publish_report
from tests.artifacts.memory_store import MemoryStore
from tests.report.page.experiments import (
    EXPERIMENT,
    HOSTILE,
    advance,
    alphas_of,
    claimed,
    register,
    run_names,
    whole_experiment,
    whole_run,
)
from tests.report.test_compared_searches import searched


class Elements(HTMLParser):
    """The tags of a page, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._inside):
            self.text.append(data)


def payload(page: Page) -> Any:
    """What the page's script reads."""
    found = re.search(r'id="payload">([^<]*)<', page.html)
    assert found is not None
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


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


def made(folder: Path) -> Page:
    return PageMaker(open_store(str(folder)), EXPERIMENT).make()


def test_probabilities_and_cells_are_those_of_the_trace(written: Path) -> None:
    data = payload(made(written))
    run = data["runs"][1]
    assert run["run"] == "second-order-seed-1"
    alphas = alphas_of(1, 30)
    normal = run["alphas"]["cells"][0]
    assert run["alphas"]["steps"] == list(range(1, 31))
    for edge in (0, 13):
        own = alphas[:, edge * 8 : edge * 8 + 8]
        wanted = np.array([softmax(row) for row in own.tolist()])
        np.testing.assert_allclose(np.array(normal["edges"][edge]["values"]).T / 1000, wanted, atol=5.1e-4)
    slider = run["slider"]
    assert slider["epochs"] == [0, 1, 2, 3, 4]
    assert slider["steps"] == [6, 12, 18, 24, 30]
    kept = data["drawings"][slider["drawings"][4]]["kept"]
    for (cell, target, source, operation), weight in zip(kept, slider["weights"][4], strict=True):
        place = next(c for c in run["alphas"]["cells"] if c["cell"] == cell)
        edge = next(e for e in place["edges"] if (e["source"], e["target"]) == (source, target))
        assert weight == edge["values"][place["operations"].index(operation)][-1]
    assert data["best"] == slider["drawings"][4]


def test_an_unpublished_trace_is_read_from_its_parts(written: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "unpublished"))
    register(store, run_names(2))
    for seed, run in enumerate(run_names(2)):
        whole_run(store, run, seed, publish=False)
    published, parts = payload(made(written)), payload(made(tmp_path / "unpublished"))
    assert [run["alphas"] for run in parts["runs"]] == [run["alphas"] for run in published["runs"]]
    assert [run["slider"]["weights"] for run in parts["runs"]] == [
        run["slider"]["weights"] for run in published["runs"]
    ]


def test_a_page_made_again_reads_what_is_new(tmp_path: Path) -> None:
    store = MemoryStore()
    run = run_names(1)[0]
    register(store, [run])
    writer, alphas = claimed(store, run), alphas_of(0, 30)
    advance(writer, alphas, 6, 6, 30)
    maker = PageMaker(store, EXPERIMENT)
    first = maker.make(10)
    assert payload(first)["refresh_s"] == 10
    assert maker.make(10).tag == first.tag
    advance(writer, alphas, 12, 6, 30)
    second = maker.make(10)
    assert second.tag != first.tag
    assert payload(second) == payload(PageMaker(store, EXPERIMENT).make(10))
    assert payload(second)["runs"][0]["alphas"]["of"] == 12


def test_a_log_that_was_changed_while_it_is_watched_is_read_anew(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store, run = open_store(str(folder)), run_names(1)[0]
    register(store, [run])
    writer, alphas = claimed(store, run), alphas_of(0, 30)
    advance(writer, alphas, 6, 6, 30)
    maker = PageMaker(store, EXPERIMENT)
    assert maker.make().facts.problems == ()
    for step in (12, 18):
        advance(writer, alphas, step, 6, 30)
    log = folder / EXPERIMENT / "runs" / run / "log"
    (log / "000000000002.json").unlink()
    assert "000000000002.json is missing" in str(maker.make().facts.problems)
    shutil.rmtree(log.parent)
    register(store, [run])
    advance(claimed(store, run, session="7" * 32), alphas_of(9, 30), 24, 6, 30)
    seen, fresh = maker.make(), PageMaker(store, EXPERIMENT).make()
    assert seen.data == fresh.data
    assert seen.facts.problems == ()


def test_finished_runs_are_read_once() -> None:
    store = MemoryStore()
    whole_experiment(store, 2)
    maker = PageMaker(store, EXPERIMENT)
    first = maker.make()
    store.log.clear()
    second = maker.make()
    assert payload(second) == payload(first)
    assert not [asked for asked in store.log if "alpha_trace" in asked or "parts/" in asked]


def test_a_search_that_is_to_select_is_not_over_before_its_selection() -> None:
    store = MemoryStore()
    whole_experiment(store, 1)
    assert PageMaker(store, EXPERIMENT).make().facts.is_over
    facts = SessionFacts.of_this_process("8" * 32, ["ray-darts", "search", "--select"], load_config("digits"))
    register_session(store, EXPERIMENT, facts)
    assert not PageMaker(store, EXPERIMENT).make().facts.is_over


def test_the_tag_is_of_all_that_the_page_shows(folder: Path) -> None:
    before = made(folder)
    best = folder / EXPERIMENT / "best.json"
    plain = json.loads(best.read_text())
    plain["metric"]["value"] = 0.75
    best.write_text(json.dumps(plain))
    after = made(folder)
    assert "0.75" in after.html
    assert after.tag != before.tag
    assert made(folder).tag == after.tag


def test_a_selection_has_a_page_too() -> None:
    store = MemoryStore()
    searched(store)
    text = "".join(Elements(PageMaker(store, "s/selection").make().html).text)
    assert "An experiment of trainings: its scores are in the table." in text
    assert "No random baseline" not in text


def test_no_name_becomes_markup(folder: Path) -> None:
    file = folder / EXPERIMENT / "experiment.json"
    page = made(folder)
    assert HOSTILE in "".join(Elements(page.html).text)
    tags = Elements(page.html).tags
    assert not [tag for tag, _ in tags if tag in ("img", "b")]
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert sum(tag == "script" for tag, _ in tags) == 3
    plain = json.loads(file.read_text())
    plain["code"] = plain["config_digest"] = HOSTILE
    plain["layout"]["cells"][0]["name"] = HOSTILE
    file.write_text(json.dumps(plain))
    assert [tag for tag, _ in Elements(made(folder).html).tags if tag in ("img", "b")] == []


def test_nothing_is_fetched(written: Path) -> None:
    elements = Elements(made(written).html)
    assert not [a for _, a in elements.tags if {"src", "srcset", "action", "data"} & set(a)]
    assert all((a.get("href") or "#").startswith("#") for _, a in elements.tags)
    policy = next(a["content"] for _, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def edit_record(run: Path, place: int, change: Callable[[Any], object]) -> None:
    """Change a record, and give those after it the hashes that make a chain again."""
    files = sorted((run / "log").iterdir())
    for number, file in enumerate(files):
        plain = json.loads(file.read_text())
        if number == place % len(files):
            change(plain)
        if number:
            plain["previous_sha256"] = hashlib.sha256(files[number - 1].read_bytes()).hexdigest()
        file.write_text(json.dumps(plain))


def damage(folder: Path, what: str) -> None:
    experiment = folder / EXPERIMENT
    run = experiment / "runs" / "first-order-seed-0"
    match what:
        case "no description":
            (experiment / "experiment.json").unlink()
        case "half a description":
            (experiment / "experiment.json").write_text('{"schema_version": 1,')
        case "a foreign description":
            (experiment / "experiment.json").write_text('{"name": "of another program"}')
        case "no best":
            (experiment / "best.json").unlink()
        case "a foreign best":
            (experiment / "best.json").write_text("[]")
        case "half a record":
            record = sorted((run / "log").iterdir())[2]
            record.write_bytes(record.read_bytes()[:100])
        case "a missing record":
            sorted((run / "log").iterdir())[2].unlink()
        case "no run description":
            (run / "run.json").unlink()
        case "half a trace":
            trace = run / "alpha_trace.parquet"
            trace.write_bytes(trace.read_bytes()[:1000])
        case "a trace of another width":
            shutil.copy(run / "metrics.parquet", run / "alpha_trace.parquet")
        case "no parts and no trace":
            (run / "alpha_trace.parquet").unlink()
            shutil.rmtree(run / "parts")
        case "a metric that is none":
            edit_record(run, -1, lambda plain: plain["answer"]["metric"].update(value="high"))
        case "a time that is none":
            edit_record(run, 1, lambda plain: plain.update(written_at="yesterday"))
        case "a cell that is none":
            edit_record(run, 1, lambda plain: plain["epochs"][0].update(genotype="{"))
        case "a best cell that is none":
            best = json.loads((experiment / "best.json").read_text())
            best["genotype"]["cells"][0]["num_inputs"] = 0
            (experiment / "best.json").write_text(json.dumps(best))
        case "a foreign session":
            (experiment / "sessions").mkdir()
            (experiment / "sessions" / "a.json").write_text("null")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no description", "experiment.json"),
        ("half a description", "experiment.json"),
        ("a foreign description", "experiment.json"),
        ("no best", "verify --repair"),
        ("a foreign best", "best.json"),
        ("half a record", "first-order-seed-0: "),
        ("a missing record", "000000000002.json is missing although a later record exists"),
        ("no run description", "first-order-seed-0: "),
        ("half a trace", "alpha_trace.parquet cannot be read as Parquet"),
        ("a trace of another width", "alpha_trace.parquet"),
        ("no parts and no trace", "parts/"),
        ("a foreign session", "the commands: "),
        ("a metric that is none", "first-order-seed-0: "),
        ("a time that is none", "has no time that can be read"),
        ("a cell that is none", "cells: "),
        ("a best cell that is none", "best.json: "),
    ],
)
def test_a_damaged_experiment_has_a_page_that_says_so(folder: Path, what: str, said: str) -> None:
    damage(folder, what)
    page = made(folder)
    shown = "".join(Elements(page.html).text) + "".join(str(run["problems"]) for run in payload(page)["runs"])
    assert said in shown
    assert "second-order-seed-1" in shown


def test_what_is_not_there_is_an_error_that_names_what_is(folder: Path) -> None:
    with pytest.raises(MissingObject, match=f"there are {EXPERIMENT}"):
        PageMaker(open_store(str(folder)), "other")


def test_an_experiment_without_runs_has_a_page(tmp_path: Path) -> None:
    register(open_store(str(tmp_path)), [])
    text = "".join(Elements(made(tmp_path).html).text)
    assert "No run has been started yet." in text


def test_publishing_never_raises_and_says_why_in_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(str(folder))
    with caplog.at_level("INFO", logger="ray_darts"):
        assert publish_report(store, "other") is None
        assert "no report: no experiment 'other'" in caplog.text
    assert publish_report(store, EXPERIMENT) == f"{EXPERIMENT}/report.html"
    assert (folder / EXPERIMENT / "report.html").read_text().startswith("<!DOCTYPE html>")
