"""The state machine of `protocol` over runs that have ended: collectors that let parts and checkpoints go, two at once,
and readers that have read a log before.
"""

from __future__ import annotations

from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.traces import read_rows
from tests.artifacts.moves import pauses, runs, with_faults
from tests.artifacts.protocol import WIDTH, Protocol
from tests.artifacts.runs import EXPERIMENT, advance, check_alphas, claimed, finish

ends = st.sampled_from(["published", "published", "finished", "failed"])


class CompactionProtocol(Protocol):
    """What may be done with runs that have ended."""

    @initialize(ends=st.tuples(ends, ends))
    def begin(self, ends: tuple[str, str]) -> None:
        for run, end in zip(self.keys, ends, strict=True):
            writer = claimed(self.store, f"session-of-{run}", run)
            for step in (2, 5, 6):
                advance(writer, step)
            if end == "failed":
                writer.fail("non_finite", "NaN")
                continue
            finish(writer)
            if end == "published":
                publish_run(self.store, EXPERIMENT, run)

    def sweep(self, compact: bool | None = None, keep: int | None = None) -> None:
        """As in the other machine, but compacting by turns with not: that is what is tried here."""
        super().sweep(self.sweeps % 2 == 0 if compact is None else compact, keep)

    @rule(run=runs, pause=pauses)
    def read(self, run: str, pause: int | None) -> None:
        """Whoever has read a log reads all its rows, though a collector lets parts go meanwhile."""
        log = read_log(self.store, self.keys[run])
        rows = with_faults(self.store, [], lambda: list(read_rows(self.store, self.keys[run], log, WIDTH)), pause)
        assert rows is not None, "a reader was left without rows"
        check_alphas(rows, log[-1].record.step if log else 0)


def let_two_collectors_meet_at_every_read() -> int:
    """One lets parts go, the other the last checkpoint and no parts: it comes before each read of the first, in turn.
    Returns the number of reads."""
    for pause in count():
        machine = CompactionProtocol()
        machine.begin(("published", "published"))
        came: list[int] = []

        def another(machine: CompactionProtocol = machine, came: list[int] = came) -> None:
            came.append(1)
            machine.sweep(compact=False, keep=0)

        machine.store.sweep = another
        with_faults(machine.store, [], lambda machine=machine: machine.sweep(compact=True, keep=1), pause)  # type: ignore[misc]
        machine.every_log_keeps_its_rules()
        machine.what_a_log_refers_to_is_there()
        if not came:
            return pause
    raise AssertionError("no end of reads")
