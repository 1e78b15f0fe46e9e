"""Builds the derived network of a training, seeded on the CPU so that every device starts from the same weights."""

from __future__ import annotations

import logging

from ray_darts.config import TrainingConfig
from ray_darts.errors import ConfigError
from ray_darts.genotype.genotype import Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.registry import find_space
from ray_darts.spaces.batch_norm import use_kernel
from ray_darts.spaces.build import seeded
from ray_darts.spaces.derived import DerivedNetwork
from ray_darts.spaces.genotypes import checked
from ray_darts.spaces.kernel import Kernel

logger = logging.getLogger("ray_darts.training")


def build_derived(config: TrainingConfig, genotype: Genotype, facts: DataFacts, seed: int) -> DerivedNetwork:
    """The network of `genotype` on the CPU, its weights a function of (config, genotype, facts, seed), in float32.

    With `training.auxiliary_weight` it has an auxiliary head, unless its maps are too small: then a warning is logged.
    Raises: GenotypeError, ConfigError where genotype, space and settings do not fit.
    """
    _check(config, genotype)
    if config.training.auxiliary_weight > 0:
        try:
            return build_with_auxiliary(config, genotype, facts, seed)
        except ConfigError as error:
            logger.warning("warning: %s: training without the auxiliary head", error)
    return _built(config, genotype, facts, seed, {})


def build_with_auxiliary(config: TrainingConfig, genotype: Genotype, facts: DataFacts, seed: int) -> DerivedNetwork:
    """As `build_derived`, always with an auxiliary head. Raises: ConfigError where the space has none or the maps are
    too small for it."""
    _check(config, genotype)
    return _built(config, genotype, facts, seed, {"auxiliary": True})


def _check(config: TrainingConfig, genotype: Genotype) -> None:
    if genotype.space != config.network.kind:
        raise ConfigError(
            f"the genotype is of space {genotype.space!r}, network.kind is {config.network.kind!r}: choose a preset or "
            f"config with network.kind={genotype.space}"
        )
    checked(genotype)


def _built(
    config: TrainingConfig, genotype: Genotype, facts: DataFacts, seed: int, more: dict[str, object]
) -> DerivedNetwork:
    options = {**config.network.model_dump(exclude={"kind"}), **more}
    with seeded(seed):
        network = find_space(genotype.space).network(genotype, facts, **options)
    if not isinstance(network, DerivedNetwork):
        raise ConfigError(
            f"the networks of the space {genotype.space!r} cannot be trained by ray_darts: they are no "
            "ray_darts.spaces.derived.DerivedNetwork"
        )
    if config.operation.kernel == "compiled":
        use_kernel(network, Kernel())
    return network
