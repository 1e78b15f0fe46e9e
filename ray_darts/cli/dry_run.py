"""`ray-darts search --dry-run`: the runs, steps, memory and time of a search, from the code and data it would use.

Reads the store and the data; writes nothing, downloads nothing, starts no cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from ray_darts.artifacts.open import open_store
from ray_darts.cli.output import report_line
from ray_darts.config import SearchConfig
from ray_darts.errors import ConfigError
from ray_darts.orchestration.capacity import machine_capacity
from ray_darts.orchestration.connection import named_cluster, ray_connection
from ray_darts.orchestration.data_access import open_data, with_absolute_path
from ray_darts.orchestration.plan import plan_sweep
from ray_darts.orchestration.preflight import check_backend
from ray_darts.orchestration.requests import SearchRequest
from ray_darts.orchestration.resources import cluster_capacity
from ray_darts.orchestration.sweep import placement
from ray_darts.protocols.dataset import DataFacts
from ray_darts.report.cost import Estimate, Plan, StepSize, estimate
from ray_darts.report.seeds import RunGroup
from ray_darts.search.footprint import Footprint, measure_footprint
from ray_darts.tasks.refusals import naming_settings


def estimate_request(request: SearchRequest) -> Estimate:
    """Check a request against its store, its data and the machine, and estimate the runs that are still to be searched.

    Raises: ConfigError, DataError, ClusterError, StoreError: what the search itself would refuse.
    """
    config = with_absolute_path(request.config)
    plan = plan_sweep(request, open_store(request.store_uri, request.config.store))
    device, concurrent = _place(request, len(plan.to_do))
    if request.warning is not None:
        report_line(f"warning: {request.warning}")
    # of the longest method: a phase after the search makes a run longer
    searches = [config.model_copy(update={"method": method}) for method in request.searched if method.orders]
    epochs = max((search.total_epochs for search in searches), default=config.search.epochs)
    facts, total_steps = _data_size(config, request.seeds[0], epochs)
    footprints = _footprints(request, config, facts, device)
    left = Counter(RunGroup.of(run.run, run.seed, run.order) for run in plan.to_do)
    operation = config.operation
    return estimate(
        Plan(
            experiment=request.experiment,
            steps_done={
                group.key: [run.status.step for run in plan.to_do if RunGroup.of(run.run, run.seed, run.order) == group]
                for group in footprints
            },
            num_ended=len(plan.runs) - len(plan.to_do),
            sizes={
                group.key: StepSize(one.flops, one.operator_calls, one.activation_bytes)
                for group, one in footprints.items()
            },
            drawn={group.key: num_runs for group, num_runs in left.items() if group not in footprints},
            epochs=epochs,
            total_steps=total_steps,
            num_weights=max((one.num_weights for one in footprints.values()), default=0),
            num_alphas=max((one.num_alphas for one in footprints.values()), default=0),
            workers=operation.worker_range[1],
            concurrent=concurrent,
            device=device,
            threads=operation.threads,
            commit_every_s=operation.commit_every_s,
            checkpoints_kept=min(config.store.keep_checkpoints, config.store.keep_finished_checkpoints),
            trace_every_steps=operation.trace_every_steps,
            data_bytes=facts.description.memory_bytes,
            loading_bytes=facts.description.loading_bytes,
            selection_epochs=None if request.select is None else config.selection_config().training.epochs,
        )
    )


def _footprints(
    request: SearchRequest, config: SearchConfig, facts: DataFacts, device: Literal["cpu", "cuda"]
) -> dict[RunGroup, Footprint]:
    """One step of each order of each method; a method without an order has no steps to count."""
    groups = [
        (method, order) for method in request.searched for order in request.orders_of(method) if order is not None
    ]
    if groups:
        report_line(f"counting one step of each order for {device}")
    torch.set_num_threads(1)
    check_backend(config.operation)
    with _explained():
        return {
            RunGroup(method.run_prefix, order): measure_footprint(
                config.model_copy(update={"method": method}), facts, order, device
            )
            for method, order in groups
        }


@contextmanager
def _explained() -> Iterator[None]:
    """Raise ConfigError for what PyTorch says of a network that cannot be trained here."""
    try:
        with naming_settings("search"):
            yield
    except (RuntimeError, MemoryError) as error:
        if "allocate memory" in str(error) or isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise ConfigError("a step does not fit the memory of this machine: lower channels or layers") from error
        raise


def _data_size(config: SearchConfig, seed: int, epochs: int) -> tuple[DataFacts, int]:
    """The facts of the data and the steps of a whole run; the data is read only where they are not known without."""
    known = config.data.size_unread(config.search.model_copy(update={"epochs": epochs}))
    if known is not None:
        return known
    data = open_data(config, seed)
    about = data.facts.description
    for line in (*(f"data: {note}" for note in about.notes), *(f"warning: {text}" for text in about.warnings)):
        report_line(line)
    return data.facts, data.total_steps(epochs)


def _place(request: SearchRequest, num_runs: int) -> tuple[Literal["cpu", "cuda"], int]:
    """The device and the runs at a time, on the named cluster or on one of this machine; no cluster for no run."""
    if num_runs == 0:
        return "cpu", 1
    if named_cluster(request.address) is None:
        capacity = machine_capacity()
    else:
        with ray_connection(request.address):
            capacity = cluster_capacity()
    device, _, concurrency = placement(request, capacity, num_runs)
    return device, concurrency.runs
