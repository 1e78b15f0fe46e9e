"""Figures of a derived network: parameters, multiply-adds, activations, depth. Counted on the meta device, without data
and without training. Knows no speeds.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from ray_darts.config import TrainingConfig
from ray_darts.errors import ConfigError
from ray_darts.genotype.genotype import NONE, CellGenotype, Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.derived import DerivedNetwork, LossSettings
from ray_darts.tasks.counting import OperatorCounter, caller, dummy_batch, saved_bytes
from ray_darts.tasks.meta_calls import META
from ray_darts.tasks.precision import parameter_dtype
from ray_darts.training.build import build_derived, build_with_auxiliary

logger = logging.getLogger("ray_darts.training")

MULTIPLY_ADDS_RULE = (
    "multiply-adds of convolutions and linear layers (products), of one image, or of one token with the decoder; "
    "biases, batch norms, pools, additions and the auxiliary head are not counted"
)
_SAMPLES = 2
"""A batch norm in train mode needs two samples, where maps are a single pixel."""


@dataclass(frozen=True)
class NetworkFigures:
    """Sizes and costs of one network.

    `parameters`: without the auxiliary head; `parameters_with_auxiliary`: with it, whether the training uses it or not;
    equal where the space has none or the maps are too small. `multiply_adds`: by MULTIPLY_ADDS_RULE.
    `activation_bytes`: kept for the backward pass of one sample (an image, or a column of `data.bptt` tokens) in the
    training, with its auxiliary head and drop-path. `depth`: {cell: edges on the longest path from an input to the
    output, 0 where there is none}; `edges`: {cell: kept edges}. An edge that is `none` counts in neither.
    """

    parameters: int
    parameters_with_auxiliary: int
    multiply_adds: int
    activation_bytes: int
    depth: Mapping[str, int]
    edges: Mapping[str, int]

    def to_data(self) -> dict[str, object]:
        """Plain JSON-able data."""
        return {**asdict(self), "depth": dict(self.depth), "edges": dict(self.edges)}


def network_figures(config: TrainingConfig, genotype: Genotype, facts: DataFacts) -> NetworkFigures:
    """Count the network of `genotype` that `config` trains on data with these facts, in PyTorch's own formulation.

    bfloat16 is counted as float32, as there is no autocast on the meta device: its activations are an upper bound.
    Raises: GenotypeError, ConfigError where genotype, space and settings do not fit.
    """
    operation = config.operation.model_copy(update={"compile": (), "kernel": "torch"})
    counted = config.model_copy(update={"operation": operation})
    try:
        return count_network(counted, genotype, facts, META)
    except RuntimeError as error:  # a network of a plugin may read values, which the meta device does not have
        logger.warning("the network is counted on the CPU, with memory and time of its own: %s", error)
        return count_network(counted, genotype, facts, torch.device("cpu"))


def count_network(config: TrainingConfig, genotype: Genotype, facts: DataFacts, device: torch.device) -> NetworkFigures:
    """As `network_figures`, with tensors on `device`: of a CPU, or of the meta device."""
    with device:
        network = build_derived(config, genotype, facts, 0)
    network = network.to(dtype=parameter_dtype(config.training))
    return NetworkFigures(
        parameters=network.main_parameters,
        parameters_with_auxiliary=_parameters_with_auxiliary(config, genotype, facts, network),
        multiply_adds=_multiply_adds(config, facts, network, device),
        activation_bytes=_activation_bytes(config, facts, network, device),
        depth={cell.name: cell_depth(cell) for cell in genotype.cells},
        edges={cell.name: num_edges(cell) for cell in genotype.cells},
    )


def cell_depth(cell: CellGenotype) -> int:
    """Edges on the longest path from an input to the output."""
    depths: list[int | None] = [0] * cell.num_inputs
    for node in cell.nodes:
        before = [depths[source] for operation, source in node if operation != NONE]
        reached = [depth for depth in before if depth is not None]
        depths.append(1 + max(reached) if reached else None)
    return max((depth for depth in (depths[state] for state in cell.outputs) if depth is not None), default=0)


def num_edges(cell: CellGenotype) -> int:
    """Kept edges."""
    return sum(operation != NONE for node in cell.nodes for operation, _ in node)


def _parameters_with_auxiliary(
    config: TrainingConfig, genotype: Genotype, facts: DataFacts, network: DerivedNetwork
) -> int:
    try:
        with META:
            network = build_with_auxiliary(config, genotype, facts, 0)
    except ConfigError:  # the space has no such head, or the maps are too small: then the network is what it is
        pass
    return sum(parameter.numel() for parameter in network.parameters())


def _multiply_adds(config: TrainingConfig, facts: DataFacts, network: DerivedNetwork, device: torch.device) -> int:
    batch = dummy_batch(config.data, facts, 1, parameter_dtype(config.training), device)
    counter = OperatorCounter(caller(device))
    with torch.no_grad(), counter:
        network.eval().evaluate(batch, network.initial_carry(1, device))
    return round(counter.flops / 2 / batch.targets.numel())


def _activation_bytes(config: TrainingConfig, facts: DataFacts, network: DerivedNetwork, device: torch.device) -> int:
    training = config.training
    batch = dummy_batch(config.data, facts, _SAMPLES, parameter_dtype(training), device)
    settings = LossSettings(training.label_smoothing, training.auxiliary_weight, training.drop_path)
    carry = network.train().initial_carry(_SAMPLES, device)
    own = [*network.parameters(), *network.buffers()]
    with OperatorCounter(caller(device)):
        kept = saved_bytes(lambda: network.training_loss(batch, carry, settings), own)
    return round(kept / _SAMPLES)
