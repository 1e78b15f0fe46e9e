"""What one command asks for: a config, and the runs of an experiment that have it. Starts nothing and writes nothing
until it is asked to register."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import ray_darts
from ray_darts.artifacts.architecture import group_facts
from ray_darts.artifacts.best import Best
from ray_darts.artifacts.concurrent_calls import do_concurrently
from ray_darts.artifacts.descriptions import ExperimentDescription
from ray_darts.artifacts.experiment import check_same, data_summary, layout_facts, register_experiment, register_run
from ray_darts.artifacts.keys import check_experiment
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.unfinished import offer_unfinished
from ray_darts.config import RunConfig, SearchConfig
from ray_darts.errors import ConfigError
from ray_darts.orchestration.assignment import run_name
from ray_darts.orchestration.budget import Budget
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import ORDERS, Method, Order
from ray_darts.protocols.registry import DEFAULTS
from ray_darts.protocols.task import RunCoordinates


@dataclass(frozen=True)
class RequestedRun:
    """One run: its name, its task and what distinguishes it. `weight`: of a long run; the longest start first.

    `is_short`: it takes no time, so that a start of Ray for it alone would be waste.
    """

    run: str
    coordinates: RunCoordinates
    task: str = DEFAULTS["task"]
    weight: int = 0
    is_short: bool = False


@dataclass(frozen=True)
class SweepRequest(abc.ABC):
    """One command: a config, and runs under one experiment's name.

    `address`: of a Ray cluster; None means RAY_ADDRESS, or a cluster of this machine for this command.
    """

    config: RunConfig
    experiment: str
    store_uri: str
    retry_failed: bool = field(default=False, kw_only=True)
    allow_world_size_change: bool = field(default=False, kw_only=True)
    address: str | None = field(default=None, kw_only=True)

    @property
    @abc.abstractmethod
    def runs(self) -> tuple[RequestedRun, ...]:
        """The runs, in the order in which people are shown them."""

    @property
    def warning(self) -> str | None:
        """What people are warned of before anything starts, None for nothing."""
        return None

    def check(self) -> None:
        """Raise ConfigError for a request that contradicts itself."""
        check_experiment(self.experiment)
        names = [run.run for run in self.runs]
        if len(set(names)) < len(names):
            raise ConfigError(f"runs {', '.join(names)}: each once")
        self._check_workers(self.config)

    def _check_workers(self, config: RunConfig, section: str = "") -> None:
        """Raise ConfigError for workers whose number changes with a batch norm that depends on it."""
        lowest, highest = config.operation.worker_range
        if lowest != highest and config.batch_norm == "local" and not self.allow_world_size_change:
            raise ConfigError(
                f"workers {config.operation.workers} change while a run goes on, and local batch norm gives other "
                f"results for each number of them: use {section}{config.BATCH_NORM}=sync, or --allow-world-size-change"
            )

    def register(
        self,
        store: ObjectStore,
        config: RunConfig,
        digests: Mapping[str, str],
        runs: Sequence[RequestedRun],
        facts: DataFacts | None = None,
    ) -> None:
        """Write experiment.json, with `facts` of the data, and the run.json of each run, or find them equal.

        Raises: ConfigError naming each difference, StoreError.
        """
        register_experiment(
            store,
            self.experiment,
            identity=config.identity(),
            config_digest=config.digest(),
            layout=config.layout(),
            data_digests=digests,
            code=f"ray_darts {ray_darts.__version__}",
            defaults=config.identity_defaults(),
            data=data_summary(facts),
        )
        do_concurrently(lambda run: self._register_run(store, config, run), runs)

    @abc.abstractmethod
    def _register_run(self, store: ObjectStore, config: RunConfig, run: RequestedRun) -> None: ...

    def offer_unfinished(self, store: ObjectStore, run: str) -> Best | None:
        """Offer what a run that was stopped has found so far as the best, where it has found anything; returns it.

        Raises: StoreError.
        """
        return None


@dataclass(frozen=True)
class SearchRequest(SweepRequest):
    """A search with every seed and order; `methods`: those that are searched with, absent that of the config.

    `select`: rank the found cells that keep this budget by a short training each; None: no selection.
    """

    config: SearchConfig
    seeds: tuple[int, ...] = ()
    orders: tuple[Order, ...] = ()
    methods: tuple[Method, ...] = field(default=(), kw_only=True)
    select: Budget | None = field(default=None, kw_only=True)

    @cached_property
    def runs(self) -> tuple[RequestedRun, ...]:
        """Method by method, seed by seed."""
        return tuple(
            RequestedRun(
                run_name(method, order, seed),
                RunCoordinates(seed=seed, order=order, method=self._settings(method)),
                method.task,
                0 if order is None else 1 + ORDERS.index(order),
                is_short=order is None,
            )
            for method in self.searched
            for seed in self.seeds
            for order in self.orders_of(method)
        )

    @property
    def warning(self) -> str | None:
        """A space without weights."""
        layout = self.config.space.layout()
        if layout.has_weights:
            return None
        operations = ", ".join(dict.fromkeys(name for cell in layout.cells for name in cell.operations))
        return (
            f"no operation of the space has weights ({operations}): every cell that this search can find is made of "
            "operations that learn nothing. Add one with weights to space.operations"
        )

    def check(self) -> None:
        """Also that the method defines the orders."""
        if not self.seeds or (not self.orders and any(method.orders for method in self.searched)):
            raise ConfigError("nothing to search: at least one seed and one order are wanted")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds {self.seeds}: each at least 0, and each once")
        if self.select is not None:
            chosen = self.config.selection_config()
            if chosen.network.kind != self.config.space.kind:
                raise ConfigError(
                    f"selection.network.kind is {chosen.network.kind!r}, the space searched is "
                    f"{self.config.space.kind!r}: set the section [selection.network] of that space"
                )
            self._check_workers(chosen, "selection.")
        for method in self.searched:
            known = method.orders
            if known and (len(set(self.orders)) < len(self.orders) or not set(self.orders) & set(known)):
                raise ConfigError(
                    f"orders {', '.join(self.orders)}: wanted are, each once, those that the method {method.kind} "
                    f"defines: {', '.join(known)}"
                )
        super().check()

    @property
    def searched(self) -> tuple[Method, ...]:
        """The methods of the runs."""
        return self.methods or (self.config.method,)

    def orders_of(self, method: Method) -> tuple[Order | None, ...]:
        """The requested orders that a method defines; (None,) for a method without an order."""
        return tuple(order for order in self.orders if order in method.orders) if method.orders else (None,)

    def offer_unfinished(self, store: ObjectStore, run: str) -> Best | None:
        """The genotype of its last sound epoch. Raises: StoreError."""
        ranking = self.config.space.ranking
        return offer_unfinished(store, self.experiment, run, ranking.metric, ranking.direction)

    def _settings(self, method: Method) -> dict[str, object] | None:
        return None if method == self.config.method else method.model_dump(mode="json")

    def _register_run(self, store: ObjectStore, config: RunConfig, run: RequestedRun) -> None:
        assert isinstance(config, SearchConfig)
        coordinates = run.coordinates
        whole = config.with_method(coordinates.method)
        settings = whole.identity().get("method")
        register_run(
            store,
            self.experiment,
            run.run,
            coordinates.seed,
            coordinates.order,
            method=settings if isinstance(settings, dict) else None,
            groups=group_facts(whole.method.groups(whole.space.layout()), whole.space.layout()),
        )


def check_identity(there: ExperimentDescription, config: RunConfig) -> None:
    """Raise ConfigError unless a config is that of an experiment; the data's digests are compared once it is open."""
    asked = {"identity": config.identity(), "layout": layout_facts(config.layout())}
    check_same(there, there.model_copy(update=asked), config.identity_defaults())
