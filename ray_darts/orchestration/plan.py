"""What a command will do, from config and store alone: which runs are finished, failed or still to be searched.

Writes nothing and starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_darts.artifacts.experiment import check_same, layout_facts, read_experiment
from ray_darts.artifacts.keys import check_name
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import ExperimentDescription
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.config import SearchConfig
from ray_darts.errors import ConfigError, MissingObject
from ray_darts.orchestration.assignment import run_name
from ray_darts.protocols.method import ORDERS, Order


@dataclass(frozen=True)
class SweepRequest:
    """One command: a config, and the seeds and orders to search with under one experiment's name.

    `address`: of a Ray cluster; None means RAY_ADDRESS, or a cluster of this machine for this command.
    """

    config: SearchConfig
    experiment: str
    store_uri: str
    seeds: tuple[int, ...]
    orders: tuple[Order, ...]
    retry_failed: bool = False
    allow_world_size_change: bool = False
    address: str | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One seed with one order, and its status in the store."""

    run: str
    seed: int
    order: Order
    status: RunStatus


@dataclass(frozen=True)
class SweepPlan:
    """All runs of a request, in the order in which they start: seed by seed."""

    request: SweepRequest
    runs: tuple[PlannedRun, ...]

    @property
    def finished(self) -> tuple[PlannedRun, ...]:
        """Never searched again; their publications are repaired."""
        return tuple(run for run in self.runs if run.status.state == "finished")

    @property
    def failed(self) -> tuple[PlannedRun, ...]:
        """Failed for good, and no retry is asked for."""
        return () if self.request.retry_failed else tuple(run for run in self.runs if run.status.state == "failed")

    @property
    def to_search(self) -> tuple[PlannedRun, ...]:
        """New or unfinished; the longest runs (second order) start first, so that few workers idle at the end."""
        ended = {run.run for run in (*self.finished, *self.failed)}
        left = (run for run in self.runs if run.run not in ended)
        return tuple(sorted(left, key=lambda run: -ORDERS.index(run.order)))


def plan_sweep(request: SweepRequest, store: ObjectStore) -> SweepPlan:
    """Check a request against itself and its store.

    Raises: ConfigError (no seed, an unknown order, another identity under this name, elastic workers with local
    batch norm), StoreError.
    """
    _check(request)
    _check_identity(request, store)
    runs = []
    for seed in request.seeds:
        for order in request.orders:
            name = run_name(request.config.method, order, seed)
            runs.append(PlannedRun(name, seed, order, run_status(store, request.experiment, name)))
    return SweepPlan(request, tuple(runs))


def warning_before_search(config: SearchConfig) -> str | None:
    """What a search with this config is warned of before it starts, None for nothing."""
    layout = config.space.layout()
    if layout.has_weights:
        return None
    operations = ", ".join(dict.fromkeys(name for cell in layout.cells for name in cell.operations))
    return (
        f"no operation of the space has weights ({operations}): every cell that this search can find is made of "
        "operations that learn nothing. Add one with weights to space.operations"
    )


def _check(request: SweepRequest) -> None:
    check_name(request.experiment, "experiment")
    if not request.seeds or not request.orders:
        raise ConfigError("nothing to search: at least one seed and one order are wanted")
    if len(set(request.seeds)) < len(request.seeds) or min(request.seeds) < 0:
        raise ConfigError(f"seeds {request.seeds}: each at least 0, and each once")
    method = request.config.method
    if len(set(request.orders)) < len(request.orders) or not set(request.orders) <= set(method.orders):
        raise ConfigError(
            f"orders {', '.join(request.orders)}: wanted are, each once, those that the method {method.kind} defines: "
            f"{', '.join(method.orders)}"
        )
    lowest, highest = request.config.operation.worker_range
    local = request.config.search.batch_norm == "local"
    if lowest != highest and local and not request.allow_world_size_change:
        raise ConfigError(
            f"workers {request.config.operation.workers} change while searching, and local batch norm gives other "
            "results for each number of them: use search.batch_norm=sync, or --allow-world-size-change"
        )


def _check_identity(request: SweepRequest, store: ObjectStore) -> None:
    """Compare with the experiment of this name, if there is one; the data's digests are compared once it is open."""
    try:
        there = read_experiment(store, request.experiment)
    except MissingObject:
        return
    check_identity(there, request.config)


def check_identity(there: ExperimentDescription, config: SearchConfig) -> None:
    """Raise ConfigError unless a config is that of an experiment; the data's digests are compared once it is open."""
    asked = {"identity": config.identity(), "layout": layout_facts(config.space.layout())}
    check_same(there, there.model_copy(update=asked), config.identity_defaults())
