"""A derived network computes what the supernet computes when all mixing weight is on its operations.

Mixing weights are one-hot: 1 for the kept operation of each kept edge, 0 for all else, so that dropped edges add
nothing. Weights are the supernet's, the affine weights of the derived network's batch norms start at 1 and 0. In
float64 and train mode. The supernet's cells have batch norms that derived cells have not (after pools; after the states
of a recurrent cell): for those comparisons the derived network is built with them, here alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ray_darts.genotype.genotype import NONE, CellGenotype, Connection, Genotype
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.batch_norm import BatchNorm
from ray_darts.spaces.convolutional import network as convolutional_network
from ray_darts.spaces.convolutional.network import ConvolutionalNetwork
from ray_darts.spaces.convolutional.operations import CONVOLUTIONS
from ray_darts.spaces.convolutional.space import SKIP, ConvolutionalSpace, NetworkOptions
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.layers import POOLS, Layers, Pool
from ray_darts.spaces.mixing import edge_groups, rows_by_source
from ray_darts.spaces.nasbench201.network import NasBench201Network
from ray_darts.spaces.nasbench201.space import NasBench201Space
from ray_darts.spaces.nasbench201.space import NetworkOptions as BenchmarkOptions
from ray_darts.spaces.nasbench201.supernet import NasBench201Supernet
from ray_darts.spaces.own_operations import PassPolicy
from ray_darts.spaces.recurrent import network as recurrent_network
from ray_darts.spaces.recurrent.network import RecurrentNetwork
from ray_darts.spaces.recurrent.operations import highway
from ray_darts.spaces.recurrent.space import NetworkOptions as TextOptions
from ray_darts.spaces.recurrent.space import RecurrentSpace
from ray_darts.spaces.recurrent.supernet import RecurrentSupernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.test_recurrent_supernet import NUM_WORDS, tokens

FACTS = DataFacts(5, 3, 12)
TOLERANCE = 1e-12


def random_genotype(layout: SpaceLayout, seed: int, operations: tuple[str, ...]) -> Genotype:
    """A genotype of `layout` with these operations, its sources and operations drawn from `seed`."""
    draws = random.Random(seed)
    cells = []
    for cell in layout.cells:
        nodes = []
        for node in range(cell.num_nodes):
            sources = draws.sample(range(cell.num_inputs + node), cell.kept_inputs(node))
            nodes.append(tuple(Connection(draws.choice(operations), source) for source in sources))
        cells.append(CellGenotype(cell.name, cell.num_inputs, tuple(nodes), cell.output_states))
    genotype = Genotype(layout.space, tuple(cells))
    genotype.check(layout)
    return genotype


def one_hot(layout: SpaceLayout, genotype: Genotype) -> dict[str, Tensor]:
    """{cell: mixing weights}: 1 for the operation of each kept edge; a dropped edge, and `none`, has only zeros."""
    mixing = {}
    for cell in layout.cells:
        weights = torch.zeros(cell.shape, dtype=torch.float64)
        for node, connections in enumerate(genotype.cell(cell.name).nodes):
            for operation, source in connections:
                if operation != NONE:
                    row = cell.edges.index((source, cell.num_inputs + node))
                    weights[row, cell.operations.index(operation)] = 1.0
        mixing[cell.name] = weights
    return mixing


def images(size: int = FACTS.image_size) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def copy_(into: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a module these weights, each of its parameters but those of batch norms, which stay at 1 and 0."""
    wanted = dict(into.named_parameters())
    for name, module in into.named_modules():
        if isinstance(module, BatchNorm):
            for kind in ("weight", "bias"):
                wanted.pop(f"{name}.{kind}".removeprefix("."), None)
    assert set(wanted) == set(weights)
    with torch.no_grad():
        for name, weight in wanted.items():
            assert weight.shape == weights[name].shape
            weight.copy_(weights[name])


# Image cells.


def operation_weights(cell: Any, layout: CellLayout, name: str, source: int, target: int) -> dict[str, Tensor]:
    """{parameter of the derived operation: weight} of one edge of a supernet's cell."""
    row = rows_by_source(layout).index(layout.edges.index((source, target)))
    if name == SKIP and cell.reduce is not None and source < layout.num_inputs:
        return {"1.first.weight": cell.reduce.first[row], "1.second.weight": cell.reduce.second[row]}
    weights: dict[str, Tensor] = {}
    for repeat in range(CONVOLUTIONS[name].repeats if name in CONVOLUTIONS else 0):
        stage, start = cell.stages[repeat], 0
        for group in edge_groups(layout):  # pointwise weights are ordered by group of edges, operation, edge
            size = group.stop - group.start
            if group.start <= row < group.stop:
                pointwise = stage.pointwise[start + stage.names.index(name) * size + row - group.start]
            start += len(stage.names) * size
        weights[f"{4 * repeat + 1}.weight"] = stage.depthwise[name][row]
        weights[f"{4 * repeat + 2}.weight"] = pointwise
    return weights


def copy_image_weights_(supernet: ConvolutionalSupernet, network: ConvolutionalNetwork, genotype: Genotype) -> None:
    """Give the derived network the weights of the supernet that has as many layers and channels."""
    network.stem.load_state_dict(supernet.stem.state_dict())
    network.classifier.load_state_dict(supernet.classifier.state_dict())
    for cell, derived in zip(cast(Any, supernet.cells), cast(Any, network.cells), strict=True):
        for module, preprocess in zip(cell.preprocess, derived.preprocess, strict=True):
            names = ["1.weight"] if len(module.weights) == 1 else ["1.first.weight", "1.second.weight"]
            copy_(preprocess, dict(zip(names, module.weights, strict=True)))
        name = "normal" if len(genotype.cells) == 1 or not cell.shape.reduction else "reduction"
        layout = supernet.layout.cell(name)
        operations = iter(derived.operations)
        for node, connections in enumerate(genotype.cell(name).nodes):
            for operation, source in connections:
                copy_(next(operations), operation_weights(cell, layout, operation, source, layout.num_inputs + node))


def compare_image_networks(
    nodes: int, layers: int, seed: int, operations: tuple[str, ...], *, single_cell: bool = False
) -> None:
    """Random genotype, random weights: logits of both networks must agree."""
    space = ConvolutionalSpace(layers=layers, channels=4, nodes=nodes, single_cell=single_cell)
    genotype = random_genotype(space.layout(), seed, operations)
    torch.manual_seed(seed)
    supernet = ConvolutionalSupernet(space, FACTS).double()
    options = NetworkOptions(layers=layers, channels=4)
    network = ConvolutionalNetwork(genotype, FACTS, options).double().train()
    copy_image_weights_(supernet, network, genotype)
    mixing = one_hot(space.layout(), genotype)
    with torch.no_grad():
        wanted = supernet.logits(images(), mixing, batch_statistics=True, update=False)
        torch.testing.assert_close(network(images()).final, wanted, rtol=0, atol=TOLERANCE)


WITHOUT_POOLS = (SKIP, *CONVOLUTIONS)


@pytest.mark.parametrize(("nodes", "layers"), [(2, 3), (3, 4), (4, 5), (4, 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_image_cells_without_pools_agree(nodes: int, layers: int, seed: int) -> None:
    compare_image_networks(nodes, layers, seed, WITHOUT_POOLS)


@pytest.mark.parametrize("seed", [0, 1])
def test_networks_of_a_single_kind_of_cell_agree(seed: int) -> None:
    compare_image_networks(3, 5, seed, WITHOUT_POOLS, single_cell=True)


@pytest.mark.parametrize("operation", WITHOUT_POOLS)
def test_each_operation_agrees_on_every_edge(operation: str) -> None:
    compare_image_networks(2, 3, 2, (operation,))


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("operations", [POOLS, (*POOLS, *WITHOUT_POOLS)], ids=["pools", "all"])
def test_image_cells_with_pools_agree_once_pools_are_normalised(
    monkeypatch: pytest.MonkeyPatch, seed: int, operations: tuple[str, ...]
) -> None:
    inner = convolutional_network._operation

    def normalised(name: str, channels: int, stride: int, policy: PassPolicy) -> nn.Module:
        module = inner(name, channels, stride, policy)
        return Layers(module, BatchNorm(channels)) if isinstance(module, Pool) else module

    with pytest.raises(AssertionError, match="not close"):
        compare_image_networks(3, 3, seed, operations)
    monkeypatch.setattr(convolutional_network, "_operation", normalised)
    compare_image_networks(3, 3, seed, operations)


# Cells of NAS-Bench-201; their pools have no batch norm in either network.


@pytest.mark.parametrize("seed", range(4))
def test_cells_of_the_benchmark_agree(seed: int) -> None:
    space = NasBench201Space(channels=4, cells_per_stage=2)
    layout = space.layout()
    (cell_layout,) = layout.cells
    genotype = random_genotype(layout, seed, cell_layout.operations)
    torch.manual_seed(seed)
    supernet = NasBench201Supernet(space, FACTS).double()
    network = NasBench201Network(genotype, FACTS, BenchmarkOptions(channels=4, cells_per_stage=2)).double().train()
    around = {name: weight for name, weight in supernet.state_dict().items() if ".cells." not in name}
    assert network.load_state_dict(around, strict=False).unexpected_keys == []
    order = rows_by_source(cell_layout)
    for cell, derived in zip(cast(Any, supernet.skeleton.cells), cast(Any, network.skeleton.cells), strict=True):
        operations = iter(derived.operations)
        for node, connections in enumerate(genotype.cells[0].nodes):
            for name, source in connections:
                if name == NONE:
                    continue
                row = order.index(cell_layout.edges.index((source, 1 + node)))
                width = cell.channels
                stacked = cell.convolutions[name].weight if name in cell.convolutions else None
                copy_(next(operations), {} if stacked is None else {"1.weight": stacked[row * width :][:width]})
    with torch.no_grad():
        wanted = supernet.logits(images(8), one_hot(layout, genotype), batch_statistics=True, update=False)
        torch.testing.assert_close(network(images(8)).final, wanted, rtol=0, atol=TOLERANCE)


# Text cells: one weight matrix per node in both networks.


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("nodes", [2, 4, 8])
def test_text_cells_agree_once_states_are_normalised(monkeypatch: pytest.MonkeyPatch, nodes: int, seed: int) -> None:
    space = RecurrentSpace(nodes=nodes, embedding=6, hidden=6, dropout_words=0.1)
    genotype = random_genotype(space.layout(), seed, tuple(name for name in space.operations if name != NONE))
    supernet = RecurrentSupernet(space, DataFacts(NUM_WORDS)).double()
    network = RecurrentNetwork(genotype, DataFacts(NUM_WORDS), TextOptions(size=6)).double().train()
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.normal_(0, 0.5, generator=draws)
    copy_(network, dict(supernet.named_parameters()))
    batch, mixing = tokens(), one_hot(space.layout(), genotype)
    carry = torch.randn(4, 6, dtype=torch.float64, generator=draws)
    wanted = supernet.loss(batch, carry, Pass.WEIGHT, mixing)

    def normalised(state: Tensor, gated: Tensor, operation: str) -> Tensor:
        return nn.functional.batch_norm(highway(state, gated, operation), None, None, training=True)

    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(network.loss(batch, carry).loss, wanted.loss, rtol=0, atol=TOLERANCE)
    monkeypatch.setattr(recurrent_network, "highway", normalised)
    found = network.loss(batch, carry)
    torch.testing.assert_close(found.loss, wanted.loss, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(found.carry, wanted.carry, rtol=0, atol=TOLERANCE)
