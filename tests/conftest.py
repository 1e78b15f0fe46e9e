"""What tests of several rooms share: one set of warm ranks for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.search.ranks import RankProcesses


@pytest.fixture(scope="session")
def ranks() -> Iterator[RankProcesses]:
    """Three processes that can become one, two or three gloo ranks."""
    processes = RankProcesses(3)
    yield processes
    processes.close()
