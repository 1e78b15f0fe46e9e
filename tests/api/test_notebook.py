"""The blocks of examples/notebook.md, in order, in one process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ray_darts.config import load_config
from tests.api.finished import write_ended_runs
from tests.cluster.files import ROOT

NOTEBOOK = ROOT / "examples" / "notebook.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", NOTEBOOK.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def _run(blocks: list[str], names: dict[str, object]) -> dict[str, object]:
    for block in blocks:
        exec(compile(block, str(NOTEBOOK), "exec"), names)
    return names


def test_the_blocks_run_over_runs_that_have_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = _run(BLOCKS[:1], {})
    small = names["SMALL"]
    assert isinstance(small, list)
    write_ended_runs("./results", "notebook", load_config("digits", overrides=small), ("first", 0))
    _run(BLOCKS[1:], names)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.slow
def test_the_blocks_search_under_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = _run(BLOCKS, {})
    assert names["seen"]
    assert names["last"] == 2


def test_the_notebook_names_every_exported_function() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    for name in ("search", "open_experiment", "build_network", "decode", "read_genotype", "write_text", "register"):
        assert f"ray_darts.{name}" in text
    for method in ("status", "best", "runs", "traces", "metrics"):
        assert f"experiment.{method}(" in text
