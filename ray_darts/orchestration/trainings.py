"""The request of trainings: genotypes trained from scratch, each with every seed, under one experiment's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ray_darts.artifacts.experiment import register_run
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.config import RunConfig, TrainingConfig
from ray_darts.errors import ConfigError, DataError
from ray_darts.genotype.canonical import genotype_digest
from ray_darts.genotype.genotype import Genotype
from ray_darts.orchestration.requests import RequestedRun, SweepRequest
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.task import RunCoordinates

TASK = "training"


@dataclass(frozen=True)
class TrainingRequest(SweepRequest):
    """Every genotype with every seed. `wanted_digests`: those of the data that a selection must see, those of its
    search."""

    config: TrainingConfig
    genotypes: tuple[Genotype, ...] = ()
    seeds: tuple[int, ...] = ()
    wanted_digests: Mapping[str, str] | None = field(default=None, kw_only=True)

    @cached_property
    def runs(self) -> tuple[RequestedRun, ...]:
        """Genotype by genotype, named by its digest."""
        return tuple(
            RequestedRun(
                training_name(genotype, seed),
                RunCoordinates.model_validate({"seed": seed, "genotype": genotype.to_data()}),
                TASK,
            )
            for genotype in self.genotypes
            for seed in self.seeds
        )

    def check(self) -> None:
        """Also that the genotypes are of the network's space."""
        if not self.genotypes or not self.seeds:
            raise ConfigError("nothing to train: at least one genotype and one seed are wanted")
        for genotype in self.genotypes:
            self.config.check_genotype(genotype)
        super().check()

    def register(
        self,
        store: ObjectStore,
        config: RunConfig,
        digests: Mapping[str, str],
        runs: Sequence[RequestedRun],
        facts: DataFacts | None = None,
    ) -> None:
        """Also compare the data with those that are wanted. Raises: also DataError."""
        for name, wanted in (self.wanted_digests or {}).items():
            if digests.get(name) != wanted:
                raise DataError(
                    f"the data have changed since the search: {name} has digest {digests.get(name, 'none')[:16]}, the "
                    f"search's is {wanted[:16]} (data.path)"
                )
        super().register(store, config, digests, runs, facts)

    def _register_run(self, store: ObjectStore, config: RunConfig, run: RequestedRun) -> None:
        coordinates = run.coordinates
        register_run(store, self.experiment, run.run, coordinates.seed, None, genotype=coordinates.genotype)


def training_name(genotype: Genotype, seed: int) -> str:
    """The name of a training: `1f0c…-seed-3`."""
    return f"{genotype_digest(genotype)}-seed-{seed}"
