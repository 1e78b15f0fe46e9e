"""Budgets of found cells: sizes of the networks that they make, compared with limits before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_darts.artifacts.experiment import list_runs, read_experiment
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.config import TrainingConfig
from ray_darts.errors import ConfigError, MissingObject
from ray_darts.genotype.canonical import genotype_digest
from ray_darts.genotype.genotype import Genotype
from ray_darts.protocols.dataset import DataFacts

if TYPE_CHECKING:
    from ray_darts.orchestration.trainings import TrainingRequest

_VOCABULARY = "vocabulary.json"


@dataclass(frozen=True)
class Budget:
    """Limits of a network: `max_parameters` without the auxiliary head, `max_multiply_adds` of one sample; None: no
    limit. Raises: ConfigError for a limit that is no whole number of at least 1."""

    max_parameters: int | None = None
    max_multiply_adds: int | None = None

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
                raise ConfigError(f"{name} = {limit!r}: wanted is a whole number of at least 1")

    def excess(self, config: TrainingConfig, genotypes: Iterable[Genotype], facts: DataFacts | None) -> dict[str, str]:
        """{digest of a genotype: what exceeds a limit} of those that do. Raises: ConfigError without facts."""
        if self.max_parameters is None and self.max_multiply_adds is None:
            return {}
        from ray_darts.training.figures import network_figures

        if facts is None:
            raise ConfigError("a budget needs the sizes of the data, which this experiment does not state")
        found: dict[str, str] = {}
        for genotype in genotypes:
            figures = network_figures(config, genotype, facts)
            reasons = [
                f"{value:,} {what}, at most {limit:,} are allowed ({option})"
                for value, limit, what, option in (
                    (figures.parameters, self.max_parameters, "parameters", "--max-parameters"),
                    (figures.multiply_adds, self.max_multiply_adds, "multiply-adds", "--max-multiply-adds"),
                )
                if limit is not None and value > limit
            ]
            if reasons:
                found[genotype_digest(genotype)] = "; ".join(reasons)
        return found


def stored_facts(store: ObjectStore, experiment: str) -> DataFacts | None:
    """The sizes of an experiment's data: of images from its description, of text from a run's vocabulary."""
    about = read_experiment(store, experiment).data
    if about is not None:
        return DataFacts(len(about.classes), about.channels, about.image_size)
    for run in list_runs(store, experiment):
        try:
            words = json.loads(store.get(RunKeys(experiment, run).document(_VOCABULARY)).data)
        except MissingObject:
            continue
        return DataFacts(len(words["words"]))
    return None


def check_budget(budget: Budget, request: TrainingRequest) -> None:
    """Raise ConfigError naming each genotype of a request that exceeds a budget; reads the data for their sizes."""
    if budget == Budget():
        return
    from ray_darts.orchestration.data_access import load_data, with_absolute_path

    config = with_absolute_path(request.config)
    facts = config.data.facts_unread() or config.streams(load_data(config), request.seeds[0]).facts
    excess = budget.excess(request.config, request.genotypes, facts)
    if excess:
        raise ConfigError("\n".join(f"the network of cell {cell} has {reason}" for cell, reason in excess.items()))
