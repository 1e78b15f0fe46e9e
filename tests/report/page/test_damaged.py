"""Damaged, half-written and foreign experiments have a page that says what is missing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.report.page.experiments import EXPERIMENT
from tests.report.page.pages import Elements, made, payload


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
