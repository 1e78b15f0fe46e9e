"""The simulated cluster: machines that are reclaimed and replaced, and worker groups that run on them.

Plays the part of Ray: gives queued groups places, restarts a group that has lost a machine until it has failed too
often, and loses everything with the head. What a worker group does to the store is `product`'s.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.simulation.clock import VirtualClock
from benchmarks.simulation.losses import LossModel, Zone, draw_life
from benchmarks.simulation.product import Assignment, Features, OutcomeKind, RunOutcome
from benchmarks.simulation.search_run import SearchRun
from benchmarks.simulation.store import Metered
from benchmarks.simulation.worker import Attempt


class HeadLost(BaseException):
    """The machine of the head, and with it the driver, is gone."""


@dataclass(frozen=True)
class Plan:
    """What is played. Times in seconds; `crash_h`: mean hours between crashes of a worker that no machine's loss
    explains; `zombie_share`: of lost workers, those that go on for some minutes without knowing it."""

    nodes: int
    zones: int
    workers: int
    total_steps: int
    step_s: float
    commit_every_s: float
    losses: LossModel
    notice_s: float = 0.0
    crash_h: float = 500.0
    zombie_share: float = 0.1
    start_s: tuple[float, float] = (12.0, 17.0)
    seed: int = 0


@dataclass
class Tally:
    """What happened. Times are of places, in seconds; `acknowledged`: {run: the last step whose commit returned}."""

    counts: Counter[str] = field(default_factory=Counter)
    held_s: float = 0.0
    starting_s: float = 0.0
    acknowledged: dict[str, int] = field(default_factory=dict)
    most_at_once: int = 0


class Node:
    """One machine, and those that take its place."""

    def __init__(self, name: str, zone: Zone) -> None:
        self.name, self.zone = name, zone
        self.is_up = False
        self.ends = float("inf")
        self.attempt: Attempt | None = None


class Group:
    """The runs of one trial of Ray Tune, and how often it has failed."""

    def __init__(self, runs: Sequence[SearchRun]) -> None:
        self.runs = list(runs)
        self.index = 0
        self.failures = self.preemptions = 0
        self.outcomes: dict[str, RunOutcome] = {}

    @property
    def run(self) -> SearchRun:
        """The run that goes on."""
        return self.runs[self.index]

    def end(self, kind: OutcomeKind, detail: str) -> None:
        """Give all runs that are left one outcome."""
        for run in self.runs[self.index :]:
            self.outcomes[run.assignment.run] = RunOutcome(kind, detail)


class Cluster:
    """Machines and groups over the whole simulation; `begin` and `lose_head` bound what one command sees."""

    def __init__(
        self,
        plan: Plan,
        clock: VirtualClock,
        store: Metered,
        features: Features,
        finished: Callable[[SearchRun], None],
    ) -> None:
        self.plan, self.clock, self.store, self.features, self.finished = plan, clock, store, features, finished
        self.tally = Tally()
        self.random = random.Random(plan.seed)
        zones = [Zone(plan.losses, self.random) for _ in range(plan.zones)]
        self._nodes = [Node(f"node-{number:04d}", zones[number % plan.zones]) for number in range(plan.nodes)]
        self._free: deque[Node] = deque()
        self._waiting: deque[Group] = deque()
        self._active: list[Group] = []
        self._give: Callable[[], Sequence[Assignment] | None] | None = None
        self._num_concurrent = self._held = 0
        self.starts: Counter[tuple[str, str]] = Counter()
        self.outcomes: dict[str, RunOutcome] = {}
        self.is_head_lost = False
        for node in self._nodes:
            clock.schedule(0.0, lambda node=node: self._up(node))  # type: ignore[misc]

    @property
    def is_working(self) -> bool:
        """Whether a command's groups are not all done."""
        return not self.is_head_lost and bool(self._active)

    def offer(self, give: Callable[[], Sequence[Assignment] | None], num_concurrent: int) -> None:
        """Name a command's queue, and how many groups may go on at a time; `begin` takes the first ones."""
        self._give, self._num_concurrent = give, num_concurrent
        self.outcomes, self.is_head_lost = {}, False

    def begin(self) -> None:
        """Let the machines reach the present, and start the first groups."""
        now = self.clock.now
        self.clock.play(now, lambda: True)
        self.clock.begin(now)
        self.fill()

    def fill(self) -> None:
        """Take groups while there is room, and give those that wait their places."""
        while self._give is not None and len(self._active) < self._num_concurrent:
            given = self._give()
            if given is None:
                break
            group = Group([SearchRun(assignment, self.plan.total_steps) for assignment in given])
            self._active.append(group)
            self._waiting.append(group)
        self._place()

    def lose_head(self) -> None:
        """End every worker, as a cluster does whose head is gone."""
        self.is_head_lost = True
        for node in self._nodes:
            if node.attempt is not None:
                node.attempt.stop("head lost")
        self._waiting.clear()
        self._active.clear()
        self._give = None
        self.tally.counts["head losses"] += 1

    def group_ended(self, group: Group) -> None:
        """Take a group out; its outcomes are final for this command."""
        self._active.remove(group)
        self.outcomes.update(group.outcomes)
        self.fill()

    def release(self, nodes: Sequence[Node]) -> None:
        """Give machines back that are still there."""
        self._held -= 1
        for node in nodes:
            node.attempt = None
            if node.is_up:
                self._free.append(node)

    def lost(self, group: Group, cause: str) -> None:
        """Restart a group that has lost a worker, or end it; as Ray Train does with `max_failures`."""
        self.tally.counts[cause] += 1
        apart = cause == "preempted" and self.features.preemptions_apart
        if apart:
            group.preemptions += 1
        else:
            group.failures += 1
        operation = group.run.config.operation
        most = self.features.max_preemptions
        if group.failures > operation.max_failures * len(group.runs) or (
            most is not None and group.preemptions > most * len(group.runs)
        ):
            group.end("lost", "workers were lost too often")
            self.group_ended(group)
            return
        self._waiting.append(group)
        self._place()

    def _place(self) -> None:
        while self._waiting and len(self._free) >= self.plan.workers:
            nodes = [self._free.popleft() for _ in range(self.plan.workers)]
            group = self._waiting.popleft()
            attempt = Attempt(self, group, nodes, self.clock.now)
            for node in nodes:
                node.attempt = attempt
            attempt.begin()
            self._held += 1
        self.tally.most_at_once = max(self.tally.most_at_once, self._held)

    def _up(self, node: Node) -> None:
        now = self.clock.now
        node.is_up = True
        life = draw_life(self.plan.losses, node.zone, now, self.random)
        node.ends = life.ends
        if life.ends < float("inf"):
            self.clock.schedule(life.ends, lambda: self._down(node, life.replaced))
        self._free.append(node)
        self._place()

    def _down(self, node: Node, replaced: float) -> None:
        self.tally.counts["machines reclaimed"] += 1
        node.is_up = False
        if node.attempt is not None:
            node.attempt.stop("preempted")
        elif node in self._free:
            self._free.remove(node)
        self.clock.schedule(node.zone.returns(replaced), lambda: self._up(node))


class SimulatedThread:
    """The Supervisor's thread: `join` lets virtual time pass until the sweep ends, and loses the head when it is
    time. `cluster`, `head_loss_at` and `observe_s`, the time between two looks, are set by `bound`."""

    cluster: Cluster
    head_loss_at: float
    observe_s: Callable[[], float]

    def __init__(self, target: Callable[[], None], name: str = "", daemon: bool = True) -> None:
        self._target, self._has_ended = target, False

    @classmethod
    def bound(cls, cluster: Cluster, head_loss_at: float, observe_s: Callable[[], float]) -> type[SimulatedThread]:
        """A class whose threads play this cluster."""
        facts = {"cluster": cluster, "head_loss_at": head_loss_at, "observe_s": staticmethod(observe_s)}
        return type("BoundThread", (cls,), facts)

    def start(self) -> None:
        """Start the first groups."""
        self.cluster.store.who = "workers"
        self.cluster.begin()
        self.cluster.store.who = "driver"

    def is_alive(self) -> bool:
        """Whether the sweep goes on."""
        return not self._has_ended

    def join(self, timeout: float) -> None:
        """Let time pass, `timeout` or longer: not every look of a Supervisor is played. Raises: HeadLost."""
        clock, cluster = self.cluster.clock, self.cluster
        until = clock.now + max(timeout, self.observe_s())
        cluster.store.who = "workers"
        reached = clock.play(min(until, self.head_loss_at), lambda: cluster.is_working)
        clock.begin(reached)
        cluster.store.who = "driver"
        if cluster.is_working and until >= self.head_loss_at:
            cluster.lose_head()
            raise HeadLost
        if not cluster.is_working:
            self._target()
            self._has_ended = True
