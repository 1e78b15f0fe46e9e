"""The page of synthetic experiments: its data against the store, its text against names that would be markup."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.sessions import SessionFacts, register_session
from ray_darts.config import load_config
from ray_darts.errors import MissingObject
from ray_darts.genotype.decode import softmax
from ray_darts.report.page.making import PageMaker, publish_report
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
from tests.report.page.pages import Elements, made, payload
from tests.report.test_compared_searches import searched


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


@pytest.mark.parametrize("preset", ["ptb", "nasbench201-digits", "s2", "cifar10-single-cell"])
def test_every_space_has_a_page(preset: str) -> None:
    store, layout, run = MemoryStore(), load_config(preset).space.layout(), run_names(1)[0]
    register(store, [run], layout=layout)
    whole_run(store, run, 0, layout=layout)
    page = PageMaker(store, EXPERIMENT).make()
    (shown,) = page.data["runs"]
    assert (page.facts.problems, shown["problems"]) == ((), [])
    assert [len(cell["edges"]) for cell in shown["alphas"]["cells"]] == [len(cell.edges) for cell in layout.cells]
    assert all(0 < weight <= 1000 for weight in shown["slider"]["weights"][-1])


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
