"""What a command will do, from the config and the store alone: which runs are done, failed or still to be searched.

Writes nothing and starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from ray_darts.artifacts.experiment import check_same, read_experiment
from ray_darts.artifacts.keys import check_name
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.records import ExperimentDescription
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.config import SearchConfig
from ray_darts.errors import ConfigError, MissingObject
from ray_darts.orchestration.assignment import Order, run_name


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
    allow_local_batch_norm: bool = False
    address: str | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One seed with one order, and what the store says of it."""

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
        """New or unfinished, second orders first: the longest runs first leave the fewest places idle at the end."""
        settled = {run.run for run in (*self.finished, *self.failed)}
        left = (run for run in self.runs if run.run not in settled)
        return tuple(sorted(left, key=lambda run: run.order != "second"))


def plan_sweep(request: SweepRequest) -> SweepPlan:
    """Check a request against itself and the store.

    Raises: ConfigError (no seed, an unknown order, another identity under this name, elastic workers with local
    batch norm), StoreError.
    """
    _check(request)
    store = open_store(request.store_uri, request.config.store)
    _check_identity(request, store)
    runs = []
    for seed in request.seeds:
        for order in request.orders:
            name = run_name(order, seed)
            runs.append(PlannedRun(name, seed, order, run_status(store, request.experiment, name)))
    return SweepPlan(request, tuple(runs))


def with_absolute_path(config: SearchConfig) -> SearchConfig:
    """The config with a data path that means the same in any working directory; `~` is the caller's home."""
    path = config.data.path
    if path is None or "://" in path:
        return config
    data = config.data.model_copy(update={"path": str(Path(path).expanduser().absolute())})
    return config.model_copy(update={"data": data})


def _check(request: SweepRequest) -> None:
    check_name(request.experiment, "experiment")
    if not request.seeds or not request.orders:
        raise ConfigError("nothing to search: at least one seed and one order are wanted")
    if len(set(request.seeds)) < len(request.seeds) or min(request.seeds) < 0:
        raise ConfigError(f"seeds {request.seeds}: each at least 0, and each once")
    if not set(request.orders) <= {"first", "second"} or len(set(request.orders)) < len(request.orders):
        raise ConfigError(f"orders {request.orders}: wanted first, second or both")
    lowest, highest = request.config.operation.worker_range
    local = request.config.search.batch_norm == "local"
    if lowest != highest and local and not request.allow_local_batch_norm:
        raise ConfigError(
            f"workers {request.config.operation.workers} change while searching, and local batch norm is another "
            "function for each number of them: use search.batch_norm=sync, or --allow-local-batch-norm"
        )


def default_identity(config: SearchConfig) -> dict[str, JsonValue]:
    """The identity of a config of the same kinds (of space, of data) with every other setting at its default."""
    sections = config.identity().items()
    kinds = {name: {"kind": told["kind"]} for name, told in sections if isinstance(told, dict) and "kind" in told}
    return type(config).model_validate(kinds).identity()


def check_identity(there: ExperimentDescription, config: SearchConfig) -> None:
    """Raise ConfigError unless a config is that of an experiment; the data's digests are compared once it is open."""
    asked = there.model_copy(update={"identity": config.identity()})
    check_same(there, asked, default_identity(config))


def _check_identity(request: SweepRequest, store: ObjectStore) -> None:
    try:
        there = read_experiment(store, request.experiment)
    except MissingObject:
        return
    check_identity(there, request.config)
