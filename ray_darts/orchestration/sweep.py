"""A sweep: every run of a request through Ray Tune, supervised by this process until all have ended.

The same request again continues what is unfinished, publishes what is missing of finished runs, and starts no Ray
when nothing is left to do.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import ray

from ray_darts.artifacts.best import Best, read_best
from ray_darts.artifacts.compact import conclude_run
from ray_darts.artifacts.concurrent_calls import call_concurrently, do_concurrently
from ray_darts.artifacts.experiment import data_summary
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.sessions import SessionFacts, register_session
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.artifacts.status_index import try_update_index
from ray_darts.config import RunConfig
from ray_darts.errors import (
    ClusterError,
    ConfigError,
    GenotypeError,
    MissingObject,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from ray_darts.exit_codes import exit_code_of_outcomes
from ray_darts.orchestration.assignment import Assignment, RunOutcome, Session, new_session
from ray_darts.orchestration.capacity import Capacity, Concurrency, Demand, concurrent_runs, machine_capacity
from ray_darts.orchestration.connection import named_cluster, ray_connection
from ray_darts.orchestration.data_access import log_data, with_absolute_path
from ray_darts.orchestration.plan import PlannedRun, SweepPlan, plan_sweep
from ray_darts.orchestration.preflight import check_from_worker, check_here, check_store_is_shared
from ray_darts.orchestration.requests import SweepRequest
from ray_darts.orchestration.resources import cluster_capacity, run_demand
from ray_darts.orchestration.spending import Budgets, HoursKeeper, Spending, spent_before
from ray_darts.orchestration.supervisor import Limits, Supervisor
from ray_darts.orchestration.tune_sweep import TuneSweep, grouped
from ray_darts.report.amounts import counted

logger = logging.getLogger("ray_darts.orchestration")

_STOP_MARGIN_S = 120.0
"""How long runs may take to stop beside their last commit: the steps until they agree on it, and Ray's own shutdown."""

_EXPLAINED_BY_LOGS = ("error", "lost")
"""Outcomes that Ray's logs explain, for example by a worker's traceback."""

Observer = Callable[[list[RunStatus]], None]


@dataclass(frozen=True)
class SweepResult:
    """How each run of the request ended for this command, and the best genotype of the experiment so far.

    `runs`: the runs of the request with the last status that was read.
    """

    outcomes: Mapping[str, RunOutcome]
    best: Best | None
    runs: tuple[PlannedRun, ...] = ()

    @property
    def exit_code(self) -> int:
        """The command's exit code, as `ray_darts.exit_codes` lists them."""
        return exit_code_of_outcomes(outcome.kind for outcome in self.outcomes.values())


def run_sweep(request: SweepRequest, observer: Observer) -> SweepResult:
    """Work until every run has ended; `observer` gets all runs' status every few seconds, on this thread.

    In the main thread the first SIGINT or SIGTERM asks all runs to commit and end, a second one ends the command.

    Raises: ConfigError, DataError, ClusterError (before anything is computed), ClusterLost, SweepCrashed, StoreError.
    """
    store = open_store(request.store_uri, request.config.store)
    plan = plan_sweep(request, store)
    outcomes: dict[str, RunOutcome] = {}

    def publish(run: PlannedRun) -> tuple[str, RunOutcome]:
        return run.run, _publish_missing(store, request, run.run, run.status.step)

    outcomes.update(call_concurrently(publish, plan.finished))
    for run in plan.failed:
        failure = run.status.failure
        detail = "" if failure is None else f"{failure.kind}: {failure.detail}"
        outcomes[run.run] = RunOutcome("failed", f"{detail} (--retry-failed tries again)", run.status.step)
    statuses = {run.run: run.status for run in plan.runs}
    if plan.to_do:
        if request.warning is not None:
            logger.warning("warning: %s", request.warning)

        def observe(runs: list[RunStatus]) -> None:
            statuses.update((run.run, run) for run in runs)
            observer(runs)

        limits = _limits(plan, store)
        spent = limits.budgets.exceeded(limits.spent.plus(run.status.spent for run in plan.to_do))
        if spent is not None:
            logger.warning("the budget is spent, nothing is started: %s", spent)
            outcomes.update((run.run, RunOutcome("budget_spent", spent, run.status.step)) for run in plan.to_do)
        else:
            outcomes.update(_execute(plan, store, observe, limits))
        _read_ended(store, request.experiment, outcomes, statuses)
        _offer_unfinished(request, store, outcomes)
        try_update_index(store, request.experiment, statuses.values())
    best = _best_so_far(store, request.experiment)
    runs = tuple(replace(run, status=statuses[run.run]) for run in plan.runs)
    return SweepResult({run.run: outcomes[run.run] for run in plan.runs}, best, runs)


def _read_ended(
    store: ObjectStore, experiment: str, outcomes: Mapping[str, RunOutcome], statuses: dict[str, RunStatus]
) -> None:
    """Read the status of runs that have finished since they were last observed, however long the store takes."""

    def read(run: str) -> None:
        try:
            statuses[run] = run_status(store, experiment, run)
        except StoreError as error:  # a status is only shown
            logger.info("the status of %s cannot be read now: %s", run, error)

    unread = [run for run, end in outcomes.items() if end.kind == "finished" and statuses[run].state != "finished"]
    do_concurrently(read, unread)


def _publish_missing(store: ObjectStore, request: SweepRequest, run: str, step: int) -> RunOutcome:
    """Publish what is missing of a finished run, and keep of it what the config says.

    A damaged or denied one does not stop the others.
    Raises: StoreUnavailable, since without a store nothing can be searched.
    """
    try:
        conclude_run(store, request.experiment, run, request.config.store.keep_finished_checkpoints)
    except StoreUnavailable:
        raise
    except StoreDenied as error:
        return RunOutcome("refused", f"the run has finished, but publishing it is denied: {error}", step)
    except (StoreError, GenotypeError) as error:
        return RunOutcome("error", f"{error} (see ray-darts verify)", step)
    return RunOutcome("finished", step=step)


def _best_so_far(store: ObjectStore, experiment: str) -> Best | None:
    """The best genotype; None, with a warning, where it cannot be read: the outcomes are reported all the same."""
    try:
        return read_best(store, experiment)
    except MissingObject:
        return None
    except StoreError as error:
        logger.warning("the best genotype cannot be read: %s", error)
        return None


def _limits(plan: SweepPlan, store: ObjectStore) -> Limits:
    """The limits of a sweep, with what others have spent of its budgets; says what is spent. Raises: StoreError."""
    operation, experiment = plan.request.config.operation, plan.request.experiment
    budgets, spent = Budgets.of(operation), Spending()
    if budgets:
        spent = spent_before(store, experiment, [run.run for run in plan.to_do])
        text = budgets.text(spent.plus(run.status.spent for run in plan.to_do))
        logger.info("budget: %s spent; where one is used up the runs commit and end, with exit code 77", text)
    return Limits(budgets, spent, stop_grace_s=operation.stop_patience_s + _STOP_MARGIN_S)


def _offer_unfinished(request: SweepRequest, store: ObjectStore, outcomes: Mapping[str, RunOutcome]) -> None:
    """Offer what runs have found that a budget has stopped; a run that cannot be read is named and left out."""

    def offer(run: str) -> None:
        try:
            request.offer_unfinished(store, run)
        except (StoreError, GenotypeError) as error:
            logger.warning("what %s has found so far cannot be offered as the best: %s", run, error)

    do_concurrently(offer, [run for run, end in outcomes.items() if end.kind == "budget_spent" and end.step])


def _execute(plan: SweepPlan, store: ObjectStore, observer: Observer, limits: Limits) -> dict[str, RunOutcome]:
    request = plan.request
    if named_cluster(request.address) is None and not ray.is_initialized():
        placement(request, machine_capacity(), len(plan.to_do))
    with ray_connection(request.address, request.config.plugins) as connection:
        capacity = cluster_capacity()
        config = with_absolute_path(request.config)
        device, demand, concurrency = placement(request, capacity, len(plan.to_do))
        seed = plan.to_do[0].seed
        if connection.is_own:
            data = check_here(config, seed, store)
        else:
            check_store_is_shared(store)
            data = check_from_worker(config, seed, store.uri)
        log_data(data.facts.description)
        short = {run.run for run in plan.to_do if run.requested.is_short}
        session = new_session(ray_job=ray.get_runtime_context().get_job_id())
        assignments = _assignments(plan, config, session, store.uri, device, data.digests)
        request.register(store, config, data.digests, [run.requested for run in plan.to_do], data.facts)
        facts = SessionFacts.of_this_process(session.uuid, sys.argv, config, data_summary(data.facts))
        register_session(store, request.experiment, facts)
        logger.info(
            "%s to do, %d at a time (%s; drivers: %s), each %s; %s",
            counted(len(assignments), "run"),
            concurrency.runs,
            concurrency.why,
            concurrency.drivers,
            demand.describe(),
            capacity.describe(),
        )
        sweep = TuneSweep(grouped(assignments, concurrency.runs, short), concurrency.runs, concurrency.drivers)
        statuses = [run.status for run in plan.runs]
        hours = HoursKeeper(store, request.experiment, session.uuid)
        try:
            outcomes = Supervisor(sweep, assignments, store, statuses, observer, limits).run()
        finally:
            hours.close()
        connection.keep_logs = any(outcome.kind in _EXPLAINED_BY_LOGS for outcome in outcomes.values())
        return outcomes


def placement(
    request: SweepRequest, capacity: Capacity, num_runs: int
) -> tuple[Literal["cpu", "cuda"], Demand, Concurrency]:
    """The device, what a run asks for, and the runs at a time.

    Raises: ClusterError for what can never be placed, ConfigError for settings of another device.
    """
    operation = request.config.operation
    device = worker_device(operation.device, capacity)
    if operation.cuda_graph == "on" and device == "cpu":
        raise ConfigError("operation.cuda_graph=on: the workers compute on CPUs; set it to auto or off")
    demand = run_demand(operation, device)
    wanted = operation.max_concurrent
    return device, demand, concurrent_runs(capacity, demand, max(num_runs, 1), wanted, operation.drivers)


def worker_device(wanted: Literal["auto", "cpu", "cuda"], capacity: Capacity) -> Literal["cpu", "cuda"]:
    """What every worker computes on. Raises: ClusterError."""
    if wanted == "cuda" and not capacity.can_have("GPU"):
        raise ClusterError(f"operation.device is 'cuda', but the cluster has {capacity.describe()}")
    return "cuda" if wanted != "cpu" and capacity.can_have("GPU") else "cpu"


def _assignments(
    plan: SweepPlan,
    config: RunConfig,
    session: Session,
    store_uri: str,
    device: Literal["cpu", "cuda"],
    digests: Mapping[str, str],
) -> list[Assignment]:
    return [
        Assignment(
            config=config,
            experiment=plan.request.experiment,
            task=run.requested.task,
            run=run.run,
            coordinates=run.requested.coordinates,
            store_uri=store_uri,
            session=session,
            device=device,
            data_digests=dict(digests),
            retry_failed=plan.request.retry_failed,
            allow_world_size_change=plan.request.allow_world_size_change,
        )
        for run in plan.to_do
    ]
