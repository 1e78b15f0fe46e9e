"""One sweep as Ray Tune executes it: the queue of worker groups, the Tuner, outcomes, and the stop request.

A waiting group is one entry of a list: it costs the head no process, and a stop does not have to start it first.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune import TuneError
from ray.tune.search import Searcher

from ray_darts.errors import ClusterLost
from ray_darts.orchestration.assignment import ASSIGNMENTS, Assignment, RunOutcome
from ray_darts.orchestration.attempts import UnstartedTrials
from ray_darts.orchestration.capacity import DRIVER_BYTES, MEMORY, DriverPlace
from ray_darts.orchestration.losses import describe_loss
from ray_darts.orchestration.reports import REPORT, RunReports
from ray_darts.orchestration.resources import (
    HEAD_RESOURCE,
    cluster_capacity,
    free_places_of_lost_trials,
    living_nodes,
    waiting_demand,
)
from ray_darts.orchestration.run import OUTCOMES, RAY_PATH, ray_filesystem, run_trial
from ray_darts.orchestration.runtime_hooks import clear_stop, request_stop
from ray_darts.orchestration.starts import clear_starts
from ray_darts.protocols.task import StopReason

logger = logging.getLogger("ray_darts.orchestration")

_DRIVER_SHARE = 0.001
NODE_LABEL = "ray.io/node-id"
_FREE_EVERY_S = 5.0
_UNREACHABLE = (RayError, RuntimeError, ConnectionError)


class RunQueue(Searcher):
    """Gives each group of assignments to Ray Tune once, first come, first served. `started`: the runs given so far;
    `reports`: what they have said since, which Ray Tune hands over in its own thread."""

    def __init__(self, groups: Sequence[Sequence[Assignment]]) -> None:
        super().__init__()
        self._waiting = deque(groups)
        self._closed = False
        self._given: dict[str, list[str]] = {}
        self._reporting: dict[str, str] = {}
        self.started: set[str] = set()
        self.reports = RunReports()

    def close(self) -> None:
        """Give out no further run; called from another thread than Ray Tune's, which may be pickling this object."""
        self._closed = True

    def suggest(self, trial_id: str) -> dict[str, object] | None:
        """Return the next group's assignments; Ray Tune calls this when it has room for a worker group."""
        if self._closed or not self._waiting:
            return Searcher.FINISHED  # type: ignore[return-value]  # a text, as Searcher documents it
        group = self._waiting.popleft()
        self._given[trial_id] = [assignment.run for assignment in group]
        self.started.update(self._given[trial_id])
        return {ASSIGNMENTS: [assignment.to_plain() for assignment in group]}

    def on_trial_result(self, trial_id: str, result: dict[str, object]) -> None:
        """Note what a run of the group reports; the one that reported before it has probably ended."""
        text = result.get(REPORT)
        if not isinstance(text, str):
            return
        before, run = self._reporting.get(trial_id), self.reports.add(text)
        self._reporting[trial_id] = run
        if before is not None and before != run:
            self.reports.mark(before)

    def on_trial_complete(self, trial_id: str, result: dict[str, object] | None = None, error: bool = False) -> None:
        """Note that the runs of the group have ended; no run depends on the result of another."""
        self.reports.end(self._given.get(trial_id, ()))

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: Ray's own resume is never used."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: Ray's own resume is never used."""


class TuneSweep:
    """The groups of assignments of one session, `num_concurrent` worker groups at a time on the connected cluster."""

    def __init__(
        self, groups: Sequence[Sequence[Assignment]], num_concurrent: int, drivers: DriverPlace = "head"
    ) -> None:
        self._groups, self._num_concurrent, self._drivers = groups, num_concurrent, drivers
        self._session = groups[0][0].session.uuid
        self._max_failures = groups[0][0].config.operation.max_failures
        self._queue = RunQueue(groups)
        self._ended = threading.Event()

    @property
    def started(self) -> set[str]:
        """Names of the runs that Ray Tune has taken from the queue."""
        return self._queue.started

    @property
    def reports(self) -> RunReports:
        """What runs have said of themselves through Ray Tune, and which have ended."""
        return self._queue.reports

    def fit(self) -> dict[str, RunOutcome]:
        """Run Tune until every started run has ended; the outcome of each. Raises: ClusterLost."""
        threading.Thread(target=self._free_lost_places, daemon=True, name="lost places").start()
        try:
            results = self._tuner().fit()
        except (RayError, TuneError, ConnectionError) as error:
            raise ClusterLost(
                f"Ray ended before the sweep did, the same command continues it: {describe_loss(error)}"
            ) from error
        finally:
            self._ended.set()
        outcomes = {}
        for result in (results[index] for index in range(len(results))):
            if result.config:
                runs = [assignment["run"] for assignment in result.config[ASSIGNMENTS]]
                outcomes.update(self._outcomes(result, runs))
        return outcomes

    def request_stop(self, reason: StopReason) -> None:
        """Start no further run, and ask the running ones to commit and end."""
        self._queue.close()
        try:
            request_stop(self._session, reason)
        except _UNREACHABLE as error:
            logger.warning("the running runs could not be asked to stop: %s", error)

    def clear_stop(self) -> None:
        """Remove the request, and the counts of starts, from the cluster; the last call of a command."""
        self._ended.set()
        try:
            clear_stop(self._session)
            clear_starts(self._session)
        except _UNREACHABLE as error:
            logger.info("the stop request and the counts of starts could not be removed: %s", error)

    def describe_waiting(self) -> str | None:
        """One line about the resources that worker groups wait for; None when nothing waits or Ray does not answer."""
        try:
            waiting, capacity = waiting_demand(), cluster_capacity()
        except RayError as error:
            logger.info("the waiting demand cannot be read now: %s", error)
            return None
        if not waiting:
            return None
        amounts = " and ".join(f"{amount:g} {name}s" for name, amount in sorted(waiting.items(), reverse=True))
        return f"waiting for {amounts}; {capacity.describe()}"

    def _free_lost_places(self) -> None:
        """Free what killed trials have reserved until the sweep ends, so that their runs can start again."""
        while not self._ended.wait(_FREE_EVERY_S) and ray.is_initialized():  # asking Ray anything else would start it
            try:
                num_freed = free_places_of_lost_trials()
            except Exception as error:  # noqa: BLE001 - a later look may succeed
                logger.info("what lost trials have reserved cannot be read now: %s", error)
                continue
            if num_freed:
                logger.warning("the trial of a run was lost: the resources of its workers are free again")

    def _tuner(self) -> tune.Tuner:
        first = self._groups[0][0]
        return tune.Tuner(
            tune.with_resources(run_trial, driver_resources(self._drivers)),
            tune_config=tune.TuneConfig(
                search_alg=self._queue,
                num_samples=len(self._groups),
                max_concurrent_trials=self._num_concurrent,
            ),
            run_config=tune.RunConfig(
                name=f"sweep-{first.config.digest()[:8]}-{first.session.uuid[:8]}",
                storage_path=RAY_PATH,
                storage_filesystem=ray_filesystem(),
                failure_config=tune.FailureConfig(max_failures=-1),  # an attempt decides whether it is one too many
                callbacks=[UnstartedTrials(self._session, self._max_failures)],
                verbose=0,
            ),
        )

    def _outcomes(self, result: tune.Result, runs: Sequence[str]) -> dict[str, RunOutcome]:
        plain = (result.metrics or {}).get(OUTCOMES)
        if isinstance(plain, Mapping):
            return {run: RunOutcome.from_plain(plain[run]) for run in runs}
        last = describe_loss(result.error)
        lost = RunOutcome("lost", f"its trial process could not be started {self._max_failures + 1} times: {last}")
        return dict.fromkeys(runs, lost)


def driver_resources(place: DriverPlace) -> dict[str, float] | tune.PlacementGroupFactory:
    """What a trial asks for. Never CPUs: with them drivers and workers would keep each other from starting."""
    if place == "head":
        return {HEAD_RESOURCE: _DRIVER_SHARE}
    memory = {MEMORY: float(DRIVER_BYTES)}
    if place == "anywhere":
        return memory
    heads = [node["NodeID"] for node in living_nodes() if HEAD_RESOURCE in node["Resources"]]
    return tune.PlacementGroupFactory([memory], bundle_label_selector=[{NODE_LABEL: f"!{head}"} for head in heads[:1]])


def grouped(
    assignments: Sequence[Assignment], num_concurrent: int, short: Collection[str] = ()
) -> list[list[Assignment]]:
    """The runs of each worker group: `operation.runs_per_start` at most, and fewer where a place would stay empty.

    Dealt out in turns: the assignments are sorted by length, so that no group gets the longest ones alone.

    `short`: names of runs that take no time; they are one group, whatever their number.
    """
    long = [assignment for assignment in assignments if assignment.run not in short]
    rest = [assignment for assignment in assignments if assignment.run in short]
    groups = []
    if long:
        size = min(long[0].config.operation.runs_per_start, -(-len(long) // num_concurrent))
        num_groups = -(-len(long) // size)
        groups = [long[first::num_groups] for first in range(num_groups)]
    return [*groups, rest] if rest else groups
