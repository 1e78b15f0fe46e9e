"""What people mistype, paste or bring: each has one message, an exit code, and bounds of time and memory.

A case is one line in `words`, `genotypes`, `datasets` or `stores`, and goes through the real command line in this
process.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import ray_darts
from tests.hostile.bounds import bounded
from tests.hostile.case import Case
from tests.hostile.datasets import DATA_SETS
from tests.hostile.genotypes import GENOTYPES
from tests.hostile.stores import STORES
from tests.hostile.words import WORDS

MOST_S, LONGEST_MESSAGE = 10, 2100


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """What commands import when they run is not counted."""
    import ray_darts.cli.dry_run
    import ray_darts.orchestration.data_access  # noqa: F401


@pytest.mark.timeout(120)  # what waits
@pytest.mark.parametrize("case", WORDS + GENOTYPES + DATA_SETS + STORES, ids=str)
def test_each_is_one_message(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.make(tmp_path)
    with bounded(MOST_S):
        ran = ray_darts(*case.words)
    assert ran.code == case.code
    assert case.phrase in (ran.stderr if case.code else ran.stdout)
    assert len(ran.stderr) <= LONGEST_MESSAGE
    assert "Traceback" not in ran.stderr
    assert all(character == "\n" or character.isprintable() for character in ran.stdout + ran.stderr)
    if case.code and case.words[:2] != ("data", "check"):  # which prints its table all the same
        assert ran.stdout == ""
