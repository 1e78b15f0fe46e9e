"""`ray-darts report` through the command line: a file, standard output, a page that is made again, and a server."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from ray_darts.artifacts.open import open_store
from ray_darts.config import load_config
from tests.api.finished import write_ended_runs
from tests.cli.running import ray_darts
from tests.report.page.experiments import (
    EXPERIMENT,
    LAYOUT,
    advance,
    alphas_of,
    claimed,
    register,
    run_names,
    whole_experiment,
    whole_run,
)


def words(store: Path, *more: str) -> tuple[str, ...]:
    return ("report", EXPERIMENT, "--store", str(store), *more)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported")
    whole_experiment(open_store(str(folder)), 1)
    return folder


def test_the_page_is_a_file_in_this_folder(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = ray_darts(*words(store))
    page = tmp_path / f"{EXPERIMENT}.html"
    assert (ran.code, ran.stderr) == (0, "")
    assert ran.stdout == f"{EXPERIMENT}.html: {page.stat().st_size:,} bytes, 1 runs\n"
    said = json.loads(ray_darts(*words(store, "--output", "a.html", "--json")).stdout)
    assert said == {"page": "a.html", "bytes": (tmp_path / "a.html").stat().st_size, "problems": []}


def test_the_page_goes_to_standard_output(store: Path) -> None:
    ran = ray_darts(*words(store, "--output", "-"))
    assert ran.stdout.startswith("<!DOCTYPE html>")
    assert ran.stdout.endswith("</html>\n")


def test_sizes_of_networks_are_added_for_a_training_preset(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    assert LAYOUT.space == "convolutional"
    ran = ray_darts(*words(store, "--figures", "digits", "--output", str(page)))
    assert ran.code == 0, ran.stderr
    row = page.read_text().partition('<tr data-run="first-order-seed-0">')[2].partition("</tr>")[0]
    parameters = int(row.split('data-value="')[7].partition('"')[0])
    assert parameters > 1000


@pytest.mark.parametrize(
    ("more", "phrase"),
    [
        (("--serve", "--watch"), "--serve writes no file"),
        (("--watch", "--output", "-"), "name a file with --output"),
        (("--output", "none/a.html"), "there is no folder"),
        (("--serve", "--host", "host.invalid"), "cannot serve on host.invalid"),
        (("--figures", "nothing"), "unknown preset 'nothing'"),
    ],
)
def test_what_makes_no_sense_is_one_message(store: Path, more: tuple[str, ...], phrase: str) -> None:
    ran = ray_darts(*words(store, *more))
    assert ran.code == 2
    assert phrase in ran.stderr


def test_an_unknown_experiment_names_those_that_there_are(store: Path) -> None:
    ran = ray_darts("report", "other", "--store", str(store))
    assert ran.code == 1
    assert ran.stderr.startswith(f"ray-darts: no experiment 'other' in {store}; there are {EXPERIMENT}")


def test_a_watched_page_is_written_until_all_runs_have_ended(tmp_path: Path) -> None:
    folder, page = tmp_path / "store", tmp_path / "a.html"
    opened, run = open_store(str(folder)), run_names(1)[0]
    register(opened, [run])
    advance(claimed(opened, run), alphas_of(0, 30), 6, 6, 30)

    def end() -> None:
        while not page.exists():
            time.sleep(0.05)
        whole_run(opened, run, 0)

    searching = threading.Thread(target=end)
    searching.start()
    ran = ray_darts(*words(folder, "--watch", "--every", "1", "--output", str(page)))
    searching.join()
    assert ran.code == 0
    assert ran.stderr == "all runs have ended\n"
    assert "this page is made again" not in page.read_text()
    assert "1 finished" in page.read_text()


def test_a_served_page_answers_until_it_is_interrupted(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray_darts.report.page.serving import PageServer

    serve, seen = PageServer.serve, []

    def once(server: PageServer) -> None:
        thread = threading.Thread(target=serve, args=[server])
        thread.start()
        with urllib.request.urlopen(server.url, timeout=30) as reply:
            seen.append(reply.read(15))
        server.stop()
        thread.join()
        raise KeyboardInterrupt

    monkeypatch.setattr(PageServer, "serve", once)
    ran = ray_darts(*words(store, "--serve", "--port", "0"))
    assert ran.code == 130
    assert seen == [b"<!DOCTYPE html>"]
    assert ran.stderr.startswith("serving http://127.0.0.1:")


def test_a_search_that_ends_publishes_its_page_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    tiny = ("space.channels=2", "space.nodes=2", "search.epochs=2", "data.fraction=0.2")
    write_ended_runs(str(tmp_path), "done", load_config("digits", overrides=tiny), ("first", 0), ("first", 1))
    typed: tuple[str, ...] = ("search", "--name", "done", "--store", str(tmp_path), "--seeds", "2", "--orders", "first")
    typed += tuple(word for override in tiny for word in ("--set", override))
    page = tmp_path / "done" / "report.html"
    without = ray_darts(*typed, "--set", "operation.publish_report=false")
    assert not page.exists()
    assert without.stdout.endswith(f"page: ray-darts report done --store {tmp_path} writes one\n")
    ran = ray_darts(*typed)
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert ran.stdout.endswith(f"page: {page}\n")
    page.unlink()
    page.mkdir()  # in its place: publishing fails
    (page / "file").touch()
    failed = ray_darts(*typed)
    assert failed.code == 0
    assert "no report: " in failed.stderr
