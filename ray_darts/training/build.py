"""Builds the derived network of a training, seeded on the CPU so that every device starts from the same weights."""

from __future__ import annotations

import logging

from ray_darts.config import TrainingConfig
from ray_darts.errors import ConfigError
from ray_darts.genotype.genotype import Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.space import NetworkSettings
from ray_darts.spaces.batch_norm import use_kernel
from ray_darts.spaces.build import seeded
from ray_darts.spaces.derived import DerivedNetwork
from ray_darts.spaces.genotypes import checked, space_of
from ray_darts.spaces.kernel import Kernel

logger = logging.getLogger("ray_darts.training")


def build_derived(config: TrainingConfig, genotype: Genotype, facts: DataFacts, seed: int) -> DerivedNetwork:
    """The network of `genotype` on the CPU, its weights a function of (config, genotype, facts, seed), in float32.

    With `training.auxiliary_weight` it has an auxiliary head, unless its maps are too small: then a warning is logged.
    Raises: GenotypeError, ConfigError where genotype, space and settings do not fit.
    """
    config.check_genotype(genotype)
    if config.training.auxiliary_weight > 0:
        try:
            return build_with_auxiliary(config, genotype, facts, seed)
        except ConfigError as error:
            logger.warning("warning: %s: training without the auxiliary head", error)
    return _with_operation(config, network_of(genotype, config.network, facts, seed))


def build_with_auxiliary(config: TrainingConfig, genotype: Genotype, facts: DataFacts, seed: int) -> DerivedNetwork:
    """As `build_derived`, always with an auxiliary head. Raises: ConfigError where the space has none or the maps are
    too small for it."""
    config.check_genotype(genotype)
    return _with_operation(config, network_of(genotype, config.network, facts, seed, auxiliary=True))


def network_of(
    genotype: Genotype, settings: NetworkSettings, facts: DataFacts, seed: int, *, auxiliary: bool = False
) -> DerivedNetwork:
    """The network of `genotype` with these settings on the CPU in float32, with an auxiliary head or without one.

    Raises: GenotypeError, also where its space is not installed; ConfigError.
    """
    checked(genotype)
    options = settings.model_dump(exclude={"kind"})
    if auxiliary or "auxiliary" in options:
        options["auxiliary"] = auxiliary
    with seeded(seed):
        network = space_of(genotype).network(genotype, facts, **options)
    if not isinstance(network, DerivedNetwork):
        raise ConfigError(
            f"the networks of the space {genotype.space!r} can be neither trained nor exported: they are no "
            "ray_darts.spaces.derived.DerivedNetwork"
        )
    return network


def _with_operation(config: TrainingConfig, network: DerivedNetwork) -> DerivedNetwork:
    network.recomputes_cells = config.operation.checkpoint_cells
    if config.operation.kernel == "compiled":
        use_kernel(network, Kernel())
    return network
