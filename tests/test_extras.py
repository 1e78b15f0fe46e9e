"""What an extra installs is named, with its command, where it is missing; a search ends well without it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ray_darts.artifacts.open import open_store
from ray_darts.report.page import document
from ray_darts.report.page.making import publish_report
from tests.cli.running import ray_darts
from tests.report.page.experiments import EXPERIMENT, whole_experiment


@pytest.mark.parametrize(
    ("module", "extra", "words"),
    [
        ("vl_convert", "report", ("report", EXPERIMENT, "--store", "store")),
        ("jinja2", "report", ("report", EXPERIMENT, "--store", "store")),
        ("vl_convert", "report", ("show", "DARTS_V2", "--output", "a.png")),
        ("vl_convert", "report", ("show", "DARTS_V2", "--output", "a.pdf")),
        ("tensorboard", "tensorboard", ("sync", EXPERIMENT, "--store", "store", "--to", "tensorboard", "a")),
        ("mlflow.tracking", "mlflow", ("sync", EXPERIMENT, "--store", "store", "--to", "mlflow", "a")),
        ("wandb", "wandb", ("sync", EXPERIMENT, "--store", "store", "--to", "wandb", "a")),
    ],
)
def test_a_missing_extra_is_named(
    module: str, extra: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole_experiment(open_store("store"), 1)
    forget(monkeypatch, module)
    ran = ray_darts(*words)
    assert ran.code == 2
    assert f"pip install 'ray-darts[{extra}]'" in ran.stderr
    assert {entry.name for entry in tmp_path.iterdir()} == {"store"}


def test_a_search_ends_without_a_page_where_the_extra_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(str(tmp_path))
    whole_experiment(store, 1)
    forget(monkeypatch, "vl_convert")
    with caplog.at_level("INFO", logger="ray_darts"):
        assert publish_report(store, EXPERIMENT) is None
    assert "no report: a report needs the packages of ray-darts[report]" in caplog.text


def forget(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Make an import of the module fail, and what was made of it before."""
    monkeypatch.setitem(sys.modules, module, None)
    document._charts.cache_clear()
    document._environment.cache_clear()
