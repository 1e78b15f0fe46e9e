"""A sweep: every seed with every order through Ray Tune, watched by this process until all have ended or it is told
to stop.

The same request again continues what is unfinished, repairs what is missing of what is finished, and starts no Ray
when nothing is left to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import ray

import ray_darts
from ray_darts.artifacts.best import Best, read_best
from ray_darts.artifacts.experiment import register_experiment, register_run
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.status import RunStatus
from ray_darts.config import SearchConfig
from ray_darts.errors import ClusterError, CorruptObject, MissingObject
from ray_darts.orchestration.assignment import Assignment
from ray_darts.orchestration.capacity import Capacity, concurrent_runs
from ray_darts.orchestration.connection import ray_connection
from ray_darts.orchestration.outcome import Outcome, exit_code
from ray_darts.orchestration.plan import SweepPlan, SweepRequest, default_identity, plan_sweep, with_absolute_path
from ray_darts.orchestration.preflight import check_store_is_shared, look_at, look_from_worker
from ray_darts.orchestration.resources import cluster_capacity, run_demand
from ray_darts.orchestration.session import new_session
from ray_darts.orchestration.supervisor import Supervisor
from ray_darts.report.amounts import counted

__all__ = ["SweepPlan", "SweepRequest", "SweepResult", "plan_sweep", "run_sweep"]

logger = logging.getLogger("ray_darts.orchestration")

Observer = Callable[[list[RunStatus]], None]


@dataclass(frozen=True)
class SweepResult:
    """How each run of the request ended for this command, and the best genotype of the experiment so far."""

    outcomes: Mapping[str, Outcome]
    best: Best | None

    @property
    def exit_code(self) -> int:
        """0 all finished, 1 some failed, 75 store given up, 76 superseded, 130 interrupted (resumable)."""
        return exit_code(self.outcomes.values())


def run_sweep(request: SweepRequest, observer: Observer) -> SweepResult:
    """Search until every run has ended; `observer` gets all runs' status every few seconds, on this thread.

    In the main thread the first SIGINT or SIGTERM asks all runs to commit and end, a second one ends the command.

    Raises: ConfigError, DataError, ClusterError (before anything is searched), StoreError.
    """
    plan = plan_sweep(request)
    store = open_store(request.store_uri, request.config.store)
    outcomes: dict[str, Outcome] = {}
    for run in plan.finished:
        outcomes[run.run] = _published(store, request.experiment, run.run, run.status.step)
    for run in plan.failed:
        failure = run.status.failure
        detail = "" if failure is None else f"{failure.kind}: {failure.detail}"
        outcomes[run.run] = Outcome("failed", f"{detail} (--retry-failed tries again)", run.status.step)
    if plan.to_search:
        outcomes.update(_search(plan, observer))
    try:
        best = read_best(store, request.experiment)
    except MissingObject:
        best = None
    return SweepResult({run.run: outcomes[run.run] for run in plan.runs}, best)


def _published(store: ObjectStore, experiment: str, run: str, step: int) -> Outcome:
    """Publish what is missing of a finished run; one that is damaged must not stop the others."""
    try:
        publish_run(store, experiment, run)
    except (CorruptObject, MissingObject) as error:
        return Outcome("error", f"{error} (see ray-darts verify)", step)
    return Outcome("finished", step=step)


def _search(plan: SweepPlan, observer: Observer) -> dict[str, Outcome]:
    request = plan.request
    with ray_connection(request.address) as is_own:
        capacity = cluster_capacity()
        config, device = _placed(request.config, capacity)
        demand = run_demand(config.operation, device)
        num_concurrent = concurrent_runs(capacity, demand, len(plan.to_search), config.operation.max_concurrent)
        store_uri = open_store(request.store_uri, config.store).uri
        if not is_own:
            check_store_is_shared(store_uri, config)
        look = look_at if is_own else look_from_worker
        digests = look(config, request.seeds[0], store_uri)
        assignments = _assignments(plan, config, device, digests)
        _register(plan, digests)
        logger.info(
            "%s to search, %d at a time, each %s; %s",
            counted(len(assignments), "run"),
            num_concurrent,
            demand.describe(),
            capacity.describe(),
        )
        return Supervisor(assignments, num_concurrent, [run.status for run in plan.runs], observer).run()


def _placed(config: SearchConfig, capacity: Capacity) -> tuple[SearchConfig, str]:
    """The config with a data path that holds in any working directory, and the device. Raises: ClusterError."""
    wanted = config.operation.device
    if wanted == "cuda" and not capacity.can_have("GPU"):
        raise ClusterError(f"operation.device is 'cuda', but the cluster has {capacity.describe()}")
    device = "cuda" if wanted != "cpu" and capacity.can_have("GPU") else "cpu"
    return with_absolute_path(config), device


def _assignments(
    plan: SweepPlan, config: SearchConfig, device: str, digests: Mapping[str, str]
) -> Sequence[Assignment]:
    request = plan.request
    job = ray.get_runtime_context().get_job_id()
    session = new_session(ray_job=job)
    shared = {
        "config": config.model_dump(mode="json"),
        "experiment": request.experiment,
        "store_uri": open_store(request.store_uri, config.store).uri,
        "session": session.model_dump(mode="json"),
        "device": device,
        "data_digests": dict(digests),
        "retry_failed": request.retry_failed,
        "allow_local_batch_norm": request.allow_local_batch_norm,
    }
    return [
        Assignment.from_plain({**shared, "run": run.run, "seed": run.seed, "order": run.order})
        for run in plan.to_search
    ]


def _register(plan: SweepPlan, digests: Mapping[str, str]) -> None:
    """Write experiment.json and each run.json, or find them saying the same. Raises: ConfigError, StoreError."""
    request = plan.request
    config = request.config
    store = open_store(request.store_uri, config.store)
    register_experiment(
        store,
        request.experiment,
        identity=config.identity(),
        config_digest=config.digest(),
        layout=config.space.layout(),
        data_digests=digests,
        code=f"ray_darts {ray_darts.__version__}",
        defaults=default_identity(config),
    )
    for run in plan.to_search:
        register_run(store, request.experiment, run.run, run.seed, run.order)
