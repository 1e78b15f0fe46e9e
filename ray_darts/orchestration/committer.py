"""Makes snapshots durable off the critical path: one thread serialises and uploads while the next steps run.

Rides out a store that does not answer; a newer command's claim (Superseded) or an outage that lasts too long ends
it. The loop learns of either through `failure`. Knows no ranks and no Ray.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from ray_darts.artifacts.answer import ALPHAS
from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.writer import RunWriter
from ray_darts.errors import StoreUnavailable
from ray_darts.orchestration.together import ride_out
from ray_darts.search.sink import Snapshot

logger = logging.getLogger("ray_darts.orchestration")


class Committer:
    """Commits snapshots in order; rank 0 only. The writer is its own until `close`.

    `durable_step`: the last step that is in the store. `committed`, if given, is called with (step, seconds) after
    each commit, on the committer's thread.
    """

    def __init__(
        self,
        writer: RunWriter,
        *,
        total_steps: int,
        max_pending: int,
        give_up_s: float,
        committed: Callable[[int, float], None] | None = None,
    ) -> None:
        self._writer, self._total_steps = writer, total_steps
        self._max_pending, self._give_up_s, self._committed = max_pending, give_up_s, committed
        self._queue: queue.SimpleQueue[Snapshot | None] = queue.SimpleQueue()
        self._pending = 0
        self._lock = threading.Lock()
        self._halt = threading.Event()
        self._seconds: float | None = None
        self.failure: Exception | None = None
        self.durable_step = writer.step
        self._thread = threading.Thread(target=self._work, daemon=True, name="committer")
        self._thread.start()

    @property
    def pending(self) -> int:
        """Snapshots that are not durable yet."""
        with self._lock:
            return self._pending

    @property
    def is_full(self) -> bool:
        """Whether the ranks should pause: as many snapshots wait as may."""
        return self.failure is None and self.pending >= self._max_pending

    def submit(self, snapshot: Snapshot) -> None:
        """Take a snapshot; returns at once. After a failure it is dropped."""
        with self._lock:
            self._pending += 1
        self._queue.put(snapshot)

    def close(self, patience_s: float | None = None) -> None:
        """Wait until everything submitted is durable; the writer is free afterwards.

        Raises: the failure that ended the commits; StoreUnavailable when the store has not answered in `patience_s`.
        """
        self._queue.put(None)
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self._halt.set()
            self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _work(self) -> None:
        while (snapshot := self._queue.get()) is not None:
            if self.failure is None:
                try:
                    self._commit(snapshot)
                except Exception as error:
                    self.failure = error
                    logger.exception("step %d could not be committed", snapshot.step)
            with self._lock:
                self._pending -= 1

    def _commit(self, snapshot: Snapshot) -> None:
        began = time.monotonic()
        checkpoint = Checkpoint(snapshot.tensors, snapshot.state)

        def advance() -> None:
            try:
                self._writer.advance(
                    snapshot.step,
                    {ALPHAS: snapshot.alphas},
                    snapshot.epochs,
                    snapshot.metrics,
                    checkpoint,
                    self._seconds,
                    self._total_steps,
                )
            except StoreUnavailable as error:
                logger.warning("the store does not answer; step %d is durable: %s", self.durable_step, error)
                raise

        ride_out(advance, self._give_up_s, stop=self._halt)
        self._seconds = time.monotonic() - began
        self.durable_step = snapshot.step
        if self._committed is not None:
            self._committed(snapshot.step, self._seconds)
