"""The order in which Ray Tune starts runs: first come, first served, and nothing more once the command wants to end.

A waiting run is one entry of a list: it costs the head no process, and a stop does not have to start it first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ray.tune.search import Searcher

from ray_darts.orchestration.assignment import Assignment

ASSIGNMENT = "assignment"


class RunQueue(Searcher):
    """Suggests each assignment once; `stopped` ends the queue early. `started`: names of the runs handed out."""

    def __init__(self, assignments: Sequence[Assignment], stopped: Callable[[], bool]) -> None:
        super().__init__()
        self._waiting = deque(assignments)
        self._stopped = stopped
        self.started: set[str] = set()

    def __getstate__(self) -> dict[str, object]:
        """Ray pickles its searcher for a resume that we never use: without the command that it asks."""
        return {name: value for name, value in vars(self).items() if name != "_stopped"}

    def suggest(self, trial_id: str) -> dict[str, object] | None:
        """Ray Tune asks when it has room for a run."""
        if self._stopped() or not self._waiting:
            return Searcher.FINISHED  # type: ignore[return-value]  # a text, as Searcher documents it
        assignment = self._waiting.popleft()
        self.started.add(assignment.run)
        return {ASSIGNMENT: assignment.to_plain()}

    def on_trial_complete(self, trial_id: str, result: dict[str, object] | None = None, error: bool = False) -> None:
        """Nothing is learned from one run for another."""

    def save(self, checkpoint_path: str) -> None:
        """Ray's own resume is never used."""

    def restore(self, checkpoint_path: str) -> None:
        """Ray's own resume is never used."""
