"""Plays an experiment: the command is typed, the head is lost in the middle, the same command is typed again. Checks
every run in the end and returns the figures as plain data.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.simulation import product
from benchmarks.simulation.clock import VirtualClock
from benchmarks.simulation.cluster import Cluster, HeadLost, Plan, SimulatedThread
from benchmarks.simulation.product import ASSIGNMENTS, Command, Features, TuneSweep
from benchmarks.simulation.search_run import SearchRun
from benchmarks.simulation.store import Behaviour, MemoryStore, Metered
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.orchestration.capacity import Capacity

_RESTARTED_AFTER_S = 300.0
_DROPPED_AFTER_S = 900.0
PAPER_CHECKPOINT_BYTES = 15_448_000
"""A checkpoint of the paper's supernet: 1,930,618 weights and their momentum."""


@dataclass(frozen=True)
class Settings:
    """A simulation. `status_passes`: about so many are played, evenly spread; a real driver makes one every 2 s, or
    one after the other where a pass takes longer. `head_loss`: at which part of the expected time the head is lost."""

    runs: int
    plan: Plan
    behaviour: Behaviour = field(default_factory=Behaviour)
    head_bytes: float = 128e9
    node_bytes: float = 16e9
    head_loss: float | None = 0.5
    status_passes: int = 200
    overrides: tuple[str, ...] = ()


@dataclass
class StatusPasses:
    """What passes over the statuses of the runs took: requests, virtual seconds, CPU seconds of each."""

    requests: list[int] = field(default_factory=list)
    virtual_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Means and the most."""
        count = max(1, len(self.requests))
        return {
            "passes": len(self.requests),
            "requests a pass, mean": sum(self.requests) / count,
            "requests a pass, most": max(self.requests, default=0),
            "virtual seconds a pass, mean": sum(self.virtual_s) / count,
            "virtual seconds a pass, most": max(self.virtual_s, default=0.0),
            "CPU seconds a pass, mean": sum(self.cpu_s) / count,
        }


class Play:
    """One simulation; `figures` after `run`."""

    def __init__(self, settings: Settings, inner: ObjectStore | None = None) -> None:
        self.settings, self.clock = settings, VirtualClock()
        self.store = Metered(inner or MemoryStore(self.clock), self.clock, settings.behaviour)
        plan = settings.plan
        self.request = product.request_of(settings.runs, plan.workers, self.store.uri, settings.overrides)
        self.features = Features.of(self.request.config)
        self.cluster = Cluster(plan, self.clock, self.store, self.features, self._finished)
        self.passes = StatusPasses()
        self.problems: list[str] = []
        self.steps: dict[str, int] = {}
        self.garbage_bytes = 0
        self.concurrent, self.drivers = 0, "head"
        self.until_start: list[tuple[float, int]] = []
        self.outcomes: Mapping[str, product.RunOutcome] = {}
        self.figures: dict[str, object] = {}
        self._runs: dict[str, SearchRun] = {}
        self._typed_at, self._requests_before = 0.0, 0

    def run(self) -> dict[str, object]:
        """Play everything. Raises: what the package raises, which is a fault."""
        driver_bytes = product.driver_bytes(self.request, MemoryStore(VirtualClock()))
        process_bytes = product.resident_bytes()
        began = time.process_time()
        expected_s = self._expected_s(self.settings.plan.nodes // self.settings.plan.workers)
        commands = 1
        lost_at = float("inf") if self.settings.head_loss is None else expected_s * self.settings.head_loss
        try:
            self.outcomes = self._type_command(lost_at)
        except HeadLost:
            commands = 2
            self._pass_time(_RESTARTED_AFTER_S)
            self.outcomes = self._type_command(float("inf"))
        ended_at = self.clock.now
        self._pass_time(_DROPPED_AFTER_S)
        self._check_rest()
        cpu_s = time.process_time() - began
        self.figures = self._figures(commands, ended_at, cpu_s, driver_bytes, process_bytes)
        return self.figures

    def _type_command(self, head_loss_at: float) -> Mapping[str, product.RunOutcome]:
        play = self
        self._typed_at, self._requests_before = self.clock.now, self.store.requests.total()

        class SimulatedSweep(TuneSweep):
            """The package's queue, executed by the simulated cluster."""

            def __init__(
                self, groups: Sequence[Sequence[product.Assignment]], num_concurrent: int, *drivers: str
            ) -> None:
                super().__init__(groups, num_concurrent, *drivers)  # type: ignore[arg-type]
                play.concurrent, play.drivers = num_concurrent, drivers[0] if drivers else "head"
                spent = play.clock.now - play._typed_at, play.store.requests.total() - play._requests_before
                play.until_start.append(spent)
                of = {assignment.run: assignment for group in groups for assignment in group}
                play.cluster.offer(lambda: play._given(self._queue.suggest("simulated"), of), num_concurrent)

            def fit(self) -> dict[str, product.RunOutcome]:
                return dict(play.cluster.outcomes)

            def request_stop(self, reason: str) -> None:
                self._queue.close()

            def clear_stop(self) -> None:
                """Nothing is kept in a cluster."""

            def describe_waiting(self) -> None:
                """Nothing is said."""

        command = Command(
            self.request,
            self.store,
            self._capacity(),
            SimulatedSweep,
            SimulatedThread.bound(
                self.cluster,
                head_loss_at,
                lambda: self._expected_s(self.concurrent) / self.settings.status_passes,
            ),
            lambda: self.clock.now,
            self.clock.spend,
            self._status_pass,
        )
        return command.run()

    def _capacity(self) -> Capacity:
        """The head, which takes no workers, and the machines."""
        machine = {"CPU": 1.0, "memory": self.settings.node_bytes}
        head = {"CPU": 0.0, "memory": self.settings.head_bytes}
        return Capacity(nodes=(head, *[machine] * self.settings.plan.nodes), head_memory_bytes=self.settings.head_bytes)

    def _head_bytes(self) -> int:
        """What drives the runs holds on the head, at most; those placed anywhere fill it first."""
        on_head = 0 if self.drivers == "workers" else self.concurrent
        most = self.settings.head_bytes // max(1, self.features.driver_bytes)
        return int(min(on_head, most)) * self.features.driver_bytes

    def _given(
        self, suggested: object, assignments: Mapping[str, product.Assignment]
    ) -> Sequence[product.Assignment] | None:
        """The runs of the group that the queue gives; None at its end."""
        if not isinstance(suggested, Mapping):
            return None
        given = [assignments[plain["run"]] for plain in suggested[ASSIGNMENTS]]
        for assignment in given:
            self._runs[assignment.run] = SearchRun(assignment, self.settings.plan.total_steps)
        return given

    def _expected_s(self, places: int) -> float:
        plan = self.settings.plan
        return -(-self.settings.runs // max(1, places)) * plan.total_steps * plan.step_s

    def _pass_time(self, seconds: float) -> None:
        until = self.clock.now + seconds
        self.store.who = "workers"
        self.clock.play(until, lambda: True)
        self.clock.begin(until)
        self.store.who = "driver"

    def _status_pass(self, refresh: Callable[[], bool]) -> bool:
        requests, virtual, cpu = self.store.requests.total(), self.clock.now, time.process_time()
        self.store.who = "status"
        fresh = refresh()
        self.store.who = "driver"
        self.passes.requests.append(self.store.requests.total() - requests)
        self.passes.virtual_s.append(self.clock.now - virtual)
        self.passes.cpu_s.append(time.process_time() - cpu)
        return fresh

    def _finished(self, run: SearchRun) -> None:
        """Check a finished run a while after its end, when no late worker is left, and free its contents."""
        self.clock.schedule(self.clock.now + _DROPPED_AFTER_S, lambda: self._check(run, is_finished=True))

    def _check(self, run: SearchRun, is_finished: bool) -> None:
        name, inner = run.assignment.run, self.store.inner
        found = run.problems(inner, is_finished, self.cluster.tally.acknowledged.get(name, 0))
        self.problems += [f"{name}: {problem}" for problem in found]
        self.steps[name] = run.step_in_store(inner)
        if found:
            return
        self.garbage_bytes += run.garbage_bytes(inner)
        if is_finished:
            self.store.drop(run.keys.root, run.still_read)

    def _check_rest(self) -> None:
        for name, run in self._runs.items():
            if name not in self.steps:
                self._check(run, is_finished=self.outcomes[name].kind == "finished")

    def _figures(
        self, commands: int, ended_at: float, cpu_s: float, driver_bytes: int | None, process_bytes: int
    ) -> dict[str, object]:
        settings, plan, tally, store = self.settings, self.settings.plan, self.cluster.tally, self.store
        kinds: Counter[str] = Counter()
        by_whom: Counter[str] = Counter()
        for (who, kind), count in store.requests.items():
            kinds[kind] += count
            by_whom[who] += count
        useful_s = sum(self.steps.values()) * plan.step_s * plan.workers
        checkpoints = tally.counts["commits"]
        outcomes = Counter(outcome.kind for outcome in self.outcomes.values())
        return {
            "runs": settings.runs,
            "machines": plan.nodes,
            "losses": plan.losses.name,
            "commands typed": commands,
            "runs by outcome": dict(outcomes),
            "runs at a time": self.concurrent,
            "most runs at a time": tally.most_at_once,
            "virtual hours": ended_at / 3600,
            "CPU seconds of the simulation": cpu_s,
            "claims": tally.counts["claims"],
            "commits": tally.counts["commits"],
            "machines reclaimed": tally.counts["machines reclaimed"],
            "starts lost with a machine": tally.counts["preempted"],
            "starts lost otherwise": tally.counts["crashed"],
            "ended inside a request": tally.counts["ended inside a request"],
            "late commits refused": tally.counts["late commits refused"],
            "late commits accepted": tally.counts["late commits accepted"],
            "steps lost and repeated": tally.counts["steps lost"],
            "steps in the logs": sum(self.steps.values()),
            "useful share of the time of places": useful_s / tally.held_s if tally.held_s else 0.0,
            "share of the machines' time that places held": tally.held_s / (ended_at * plan.nodes),
            "requests": dict(kinds),
            "requests by": dict(by_whom),
            "requests a run": store.requests.total() / settings.runs,
            "requests a second, mean": store.requests.total() / ended_at,
            "busiest second": dict(store.busiest),
            "requests sent again (throttled)": store.throttled,
            "bytes put": dict(store.put_bytes),
            "bytes put in all": store.put_bytes.total(),
            "bytes put in all with the paper's checkpoints": store.put_bytes.total()
            + checkpoints * PAPER_CHECKPOINT_BYTES,
            "bytes kept": dict(store.kept_bytes),
            "bytes kept in all": store.kept_bytes.total(),
            "bytes that gc would remove": self.garbage_bytes,
            "until the first start: virtual seconds, requests": self.until_start,
            "status": self.passes.figures(),
            "head: bytes of the process before the experiment": process_bytes,
            "head: bytes of plan, assignments and queue": driver_bytes,
            "head: bytes of trials (model)": self._head_bytes(),
            "trials are placed": self.drivers,
            "features": asdict(self.features),
            "lost or doubled": len(self.problems),
            "problems": self.problems[:5],
        }
