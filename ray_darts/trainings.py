"""The Python API of trainings: train found architectures from scratch, test them once, and read what came out.

The command line calls it too. Every error is one of `ray_darts.errors`; nothing is printed, and warnings go to the
logger `ray_darts`. Imports neither torch nor Ray until a function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Union

from ray_darts.errors import ConfigError
from ray_darts.searches import DEFAULT_STORE

if TYPE_CHECKING:
    from ray_darts.arguments import TrainingSource
    from ray_darts.artifacts.best import Best
    from ray_darts.artifacts.results import TrainingResults
    from ray_darts.artifacts.status import RunStatus
    from ray_darts.genotype.genotype import Genotype
    from ray_darts.orchestration.assignment import RunOutcome
    from ray_darts.orchestration.budget import Budget
    from ray_darts.orchestration.trainings import TrainingRequest

DEFAULT_SEEDS = 3

ArchitectureSource = Union["Genotype", "Best", str, Path]

Observer = Callable[[list["RunStatus"]], None]


@dataclass(frozen=True)
class TrainingResult:
    """How each training ended, and the statistics over all finished ones of the experiment (None: none has finished).

    `results` is what `result.json` of the experiment holds.
    """

    experiment: str
    store: str
    outcomes: Mapping[str, RunOutcome]
    results: TrainingResults | None
    exit_code: int


def train(
    architectures: ArchitectureSource | Sequence[ArchitectureSource],
    preset_or_config: TrainingSource,
    *,
    seeds: int | Sequence[int] = DEFAULT_SEEDS,
    store: str | Path = DEFAULT_STORE,
    name: str | None = None,
    observer: Observer | None = None,
    overrides: Sequence[str] = (),
    workers: int | str | None = None,
    max_concurrent: int | None = None,
    max_hours: float | None = None,
    max_worker_hours: float | None = None,
    max_cost: float | None = None,
    max_parameters: int | None = None,
    max_multiply_adds: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
    allow_world_size_change: bool = False,
) -> TrainingResult:
    """Train architectures from scratch with every seed, until every run has ended; each opens the test set at its end.

    The same call again continues unfinished runs; when all have finished it starts nothing and returns the result.

    `architectures`: one or several of: anything that `read_genotype` reads, the name of an experiment in `store` (its
    best), the URI of one or of a genotype. `preset_or_config`: the name of a preset of trainings, the path of a TOML
    file, settings as a dict, or a TrainingConfig. The other parameters are those of `search`; `max_parameters` and
    `max_multiply_adds`: an architecture whose network exceeds them is refused before anything starts.

    Raises: ConfigError, GenotypeError, DataError, ClusterError, StoreError.
    """
    limits = {"max_hours": max_hours, "max_worker_hours": max_worker_hours, "max_cost": max_cost}
    request, budget = read_training_request(
        architectures,
        preset_or_config,
        seeds=seeds,
        store=store,
        name=name,
        overrides=overrides,
        operation={"workers": workers, "max_concurrent": max_concurrent, **limits},
        max_parameters=max_parameters,
        max_multiply_adds=max_multiply_adds,
        address=address,
        retry_failed=retry_failed,
        allow_world_size_change=allow_world_size_change,
    )
    return run_training_request(request, budget, observer)


def read_training_request(
    architectures: ArchitectureSource | Sequence[ArchitectureSource],
    preset_or_config: TrainingSource,
    *,
    seeds: int | Sequence[int] = DEFAULT_SEEDS,
    store: str | Path = DEFAULT_STORE,
    name: str | None = None,
    overrides: Sequence[str] = (),
    operation: Mapping[str, object] | None = None,
    max_parameters: int | None = None,
    max_multiply_adds: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
    allow_world_size_change: bool = False,
    mistakes: Iterable[str] = (),
) -> tuple[TrainingRequest, Budget]:
    """Check the arguments of a training; parameters as those of `train`. Reads the store, writes nothing.

    Raises: ConfigError with a line per mistake; GenotypeError; StoreError.
    """
    from ray_darts.api import read_genotype
    from ray_darts.architectures import find_architecture, read_architecture_file
    from ray_darts.arguments import check_training_arguments, collect
    from ray_darts.orchestration.budget import Budget
    from ray_darts.orchestration.trainings import TrainingRequest

    mistaken = list(mistakes)
    budget = collect(mistaken, lambda: Budget(max_parameters, max_multiply_adds))
    checked = check_training_arguments(
        preset_or_config, seeds=seeds, name=name, overrides=overrides, operation=operation, mistakes=mistaken
    )
    assert budget is not None, "a mistake would have been raised"
    found: list[Genotype] = []
    for each in _listed(architectures):
        if isinstance(each, str):
            kind = checked.config.network.kind
            found.append(find_architecture(each, str(store), checked.config.store, kind).genotype)
        elif isinstance(each, Path):
            found.append(read_architecture_file(each).genotype)
        else:
            found.append(read_genotype(each))
    distinct = tuple(dict.fromkeys(found))
    if not distinct:
        raise ConfigError("no architecture is given: name an experiment, a genotype file or a published cell")
    request = TrainingRequest(
        checked.config,
        checked.experiment,
        str(store),
        distinct,
        checked.seeds,
        retry_failed=retry_failed,
        allow_world_size_change=allow_world_size_change,
        address=address,
    )
    request.check()
    return request, budget


def _listed(architectures: ArchitectureSource | Sequence[ArchitectureSource]) -> Sequence[ArchitectureSource]:
    return architectures if isinstance(architectures, list | tuple) else [architectures]  # type: ignore[list-item]


def run_training_request(
    request: TrainingRequest, budget: Budget | None = None, observer: Observer | None = None
) -> TrainingResult:
    """Train until every run of a checked request has ended. Raises: as `train`."""
    from ray_darts.artifacts.open import open_store
    from ray_darts.artifacts.results import publish_results
    from ray_darts.errors import MissingObject
    from ray_darts.orchestration.budget import check_budget
    from ray_darts.orchestration.sweep import run_sweep

    if budget is not None:
        check_budget(budget, request)
    result = run_sweep(request, observer or (lambda runs: None))
    try:
        results = publish_results(open_store(request.store_uri, request.config.store), request.experiment)
    except MissingObject:  # nothing was begun
        results = None
    return TrainingResult(request.experiment, request.store_uri, result.outcomes, results, result.exit_code)
