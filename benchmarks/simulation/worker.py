"""One start of a worker group, as events: it claims its run, commits again and again, finishes, publishes, and goes on
with the next run; or its machine is reclaimed in the middle of any request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from benchmarks.simulation.losses import exponential
from benchmarks.simulation.product import RayDartsError, RunFinished, RunOutcome, Superseded
from benchmarks.simulation.search_run import SearchRun
from benchmarks.simulation.store import WorkerKilled

if TYPE_CHECKING:
    from benchmarks.simulation.cluster import Cluster, Group, Node
    from ray_darts.artifacts.writer import RunWriter

_BEFORE_LOSS_S = 10.0
_ZOMBIE_S = (30.0, 300.0)


class Attempt:
    """A group on its machines from their allotment to their release."""

    def __init__(self, cluster: Cluster, group: Group, nodes: Sequence[Node], now: float) -> None:
        self._cluster, self._group, self._nodes = cluster, group, list(nodes)
        self._held_since = now
        self._ends = min(node.ends for node in nodes)
        self._crashes_at = now + exponential(cluster.random, cluster.plan.crash_h)
        self._writer: RunWriter | None = None
        self._computing_since = now
        self._first_step = self._asked = 0
        self._is_concluding = self._has_ended = False

    def begin(self) -> None:
        """Start the processes."""
        delay = self._cluster.random.uniform(*self._cluster.plan.start_s)
        self._cluster.tally.starting_s += delay
        self._at(self._held_since + delay, self._claim)
        if self._crashes_at < self._ends:
            self._cluster.clock.schedule(self._crashes_at, lambda: self.stop("crashed"))

    def stop(self, cause: str) -> None:
        """End in the middle: a machine was reclaimed, a process crashed, or the head is gone."""
        if self._has_ended:
            return
        now = self._cluster.clock.now
        tally, run = self._cluster.tally, self._group.run
        if self._writer is not None:
            tally.counts["steps lost"] += max(0, self._progress(now) - self._writer.step)
            if (
                cause == "preempted"
                and not self._is_concluding
                and self._cluster.random.random() < self._cluster.plan.zombie_share
            ):
                self._live_on(run, self._writer, now + self._cluster.random.uniform(*_ZOMBIE_S))
        self._release(now)
        if cause != "head lost":
            self._cluster.lost(self._group, cause)

    def _claim(self) -> None:
        cluster, run = self._cluster, self._group.run
        session = run.assignment.session.uuid
        cluster.starts[session, run.assignment.run] += 1
        try:
            self._writer = run.claim(
                cluster.store, cluster.starts[session, run.assignment.run], self._nodes[0].name, cluster.plan.workers
            )
        except RunFinished:
            self._next_run()
            return
        cluster.tally.counts["claims"] += 1
        self._computing_since, self._first_step = cluster.clock.now, self._writer.step
        self._asked, self._is_concluding = self._writer.step, False
        self._plan_commits()

    def _plan_commits(self) -> None:
        plan, now = self._cluster.plan, self._cluster.clock.now
        last = self._computing_since + (plan.total_steps - self._first_step) * plan.step_s
        self._at(min(max(now, last), now + plan.commit_every_s), self._commit)
        warned = self._ends - _BEFORE_LOSS_S
        if plan.notice_s > _BEFORE_LOSS_S and now < warned < last:
            self._at(warned, lambda: self._advance(self._progress(warned)))

    def _commit(self) -> None:
        plan, run, writer = self._cluster.plan, self._group.run, self._writer
        assert writer is not None
        at = self._cluster.clock.now
        step = self._progress(at)
        self._advance(step)
        if step == plan.total_steps:
            self._is_concluding = True
            run.conclude(self._cluster.store, writer)
            self._next_run()
            return
        last = self._computing_since + (plan.total_steps - self._first_step) * plan.step_s
        self._at(min(last, at + plan.commit_every_s), self._commit)

    def _advance(self, step: int) -> None:
        writer, run = self._writer, self._group.run
        assert writer is not None
        if step <= writer.step:
            return
        self._asked = step
        run.advance(writer, step)
        self._acknowledge(run, step)

    def _acknowledge(self, run: SearchRun, step: int) -> None:
        known = self._cluster.tally.acknowledged
        known[run.assignment.run] = max(step, known.get(run.assignment.run, 0))
        self._cluster.tally.counts["commits"] += 1

    def _live_on(self, run: SearchRun, writer: RunWriter, at: float) -> None:
        """A worker that Ray has given up goes on: it repeats the commit that was under way and makes another one,
        unless a newer claim forbids it."""
        steps = sorted({self._asked, self._progress(at)})

        def commit() -> None:
            for step in steps:
                if step <= writer.step:
                    continue
                try:
                    run.advance(writer, step)
                except Superseded:
                    self._cluster.tally.counts["late commits refused"] += 1
                    return
                self._cluster.tally.counts["late commits accepted"] += 1
                self._acknowledge(run, step)

        self._cluster.clock.schedule(at, commit)

    def _progress(self, at: float) -> int:
        """The last step that is computed at a time."""
        plan = self._cluster.plan
        done = int((at - self._computing_since) / plan.step_s + 1e-6)
        return min(plan.total_steps, self._first_step + max(0, done))

    def _next_run(self) -> None:
        group = self._group
        run = group.run
        group.index += 1
        group.outcomes[run.assignment.run] = RunOutcome("finished", step=run.total_steps)
        self._writer = None
        self._cluster.finished(run)
        if group.index == len(group.runs):
            self._end_group()
        else:
            self._claim()

    def _end_group(self) -> None:
        self._release(self._cluster.clock.now)
        self._cluster.group_ended(self._group)

    def _release(self, now: float) -> None:
        self._has_ended = True
        self._cluster.tally.held_s += (now - self._held_since) * len(self._nodes)
        self._cluster.release(self._nodes)

    def _at(self, at: float, act: Callable[[], None]) -> None:
        """Do `act` at a time, unless this attempt has ended; requests after its machine's end are never made."""

        def event() -> None:
            if self._has_ended:
                return
            ends = min(self._ends, self._crashes_at)
            self._cluster.clock.deadline = ends
            try:
                act()
            except WorkerKilled:
                self._cluster.tally.counts["ended inside a request"] += 1
            except RayDartsError as error:
                self._group.end("superseded" if isinstance(error, Superseded) else "error", str(error))
                self._end_group()
            finally:
                self._cluster.clock.deadline = None

        if at < min(self._ends, self._crashes_at):
            self._cluster.clock.schedule(at, event)
