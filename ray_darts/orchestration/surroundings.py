"""What a rank's process can learn from and tell to whoever runs it: stop signals, drain notices, reports.

`worker` has the one that speaks to Ray; `Quiet` is for a process that nobody watches. Knows no loop and no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ray_darts.search.sink import StopReason


class Surroundings(Protocol):
    """One per rank."""

    def stop_asked(self) -> StopReason | None:
        """Why the command wants to end; read from memory, asked on every rank, an answer on any of them counts."""
        ...

    def losing_node(self) -> bool:
        """Whether a node of this run will be taken away; a collective of all ranks. Raises: RankLost."""
        ...

    def report(self, metrics: Mapping[str, object]) -> None:
        """Hand an epoch's scalars on; a barrier of all ranks. Raises: RankLost."""
        ...

    def gauge(self, name: str, value: float) -> None:
        """Show a number of this run to whoever collects metrics; rank 0 only, any thread."""
        ...


class Quiet:
    """Nobody asks, nobody listens."""

    def stop_asked(self) -> StopReason | None:
        """Never."""
        return None

    def losing_node(self) -> bool:
        """Never."""
        return False

    def report(self, metrics: Mapping[str, object]) -> None:
        """To nobody."""

    def gauge(self, name: str, value: float) -> None:
        """To nobody."""
