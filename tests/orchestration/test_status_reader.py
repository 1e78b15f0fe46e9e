"""The thread that reads the runs' status: a bug in it is raised where its answer is waited for."""

from __future__ import annotations

import pytest

from ray_darts.artifacts.objects import Stored
from ray_darts.artifacts.status import RunStatus
from ray_darts.orchestration.status_reader import StatusReader
from tests.artifacts.memory_store import MemoryStore


class Mistaken(MemoryStore):
    def get(self, key: str) -> Stored:
        raise ZeroDivisionError("a mistake")


def test_a_bug_of_the_reader_is_raised_and_not_waited_for() -> None:
    reader = StatusReader(Mistaken(), "e", [RunStatus("run", "waiting")], ["run"], lambda: ["run"])
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        reader.refresh(60.0)
    with pytest.raises(ZeroDivisionError):
        reader.refresh(60.0)
