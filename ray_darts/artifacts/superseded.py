"""Deletes the checkpoints that a writer's own acknowledged records have superseded.

Clearing away may fail in any way: the run goes on, and `gc` removes what stays. Knows no log.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import CheckpointRef

logger = logging.getLogger(__name__)

_MOST_FAILURES = 3
"""After so many in a row nothing more is deleted: a commit would wait `store.retry_s` for each."""


@dataclass(frozen=True)
class Keeping:
    """What a run keeps: its newest checkpoints, those of them once it has finished, rows of each so many-th step.

    With `finished_checkpoints` 0 the last one is needed until the run is published: `conclude_run` deletes it.
    """

    checkpoints: int = 2
    finished_checkpoints: int = 1
    trace_every_steps: int = 1

    @property
    def checkpoints_after_finish(self) -> int:
        """Until the run is published."""
        return min(max(1, self.finished_checkpoints), self.checkpoints)


BY_DEFAULT = Keeping()


class SupersededCheckpoints:
    """The last `keep` checkpoints that were added stay."""

    def __init__(self, store: ObjectStore, keep: int) -> None:
        self._store, self.keep = store, keep
        self.kept: deque[CheckpointRef] = deque()
        self.old: deque[str] = deque()
        self._failures = 0

    def add(self, checkpoint: CheckpointRef) -> None:
        """Take the checkpoint of an acknowledged record."""
        self.kept.append(checkpoint)

    def clear(self) -> None:
        """Delete what is superseded, as far as the store allows it."""
        while len(self.kept) > self.keep:
            ref = self.kept.popleft()
            self.old.extend((ref.tensors.key, ref.state.key))
        if self._failures == _MOST_FAILURES:
            self.old.clear()
        try:
            while self.old:
                self._store.delete(self.old[0])
                self.old.popleft()
                self._failures = 0
        except Exception as error:  # noqa: BLE001 - the step is durable, whatever a delete raises
            self._failures += 1
            if self._failures < _MOST_FAILURES:
                logger.info("old checkpoint not deleted yet: %s", error)
            else:
                logger.warning("old checkpoints stay from now on, `ray-darts gc` removes them: %s", error)
