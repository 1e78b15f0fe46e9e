"""Networks of genotypes have the benchmark's sizes and compute what their genotypes say."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ray_darts.errors import ConfigError, GenotypeError
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.registry import find_space
from ray_darts.spaces.genotypes import read_genotype
from ray_darts.spaces.nasbench201.network import NasBench201Network
from ray_darts.spaces.nasbench201.space import OPERATIONS, NasBench201Space
from ray_darts.spaces.nasbench201.supernet import NasBench201Supernet
from tests.spaces.nasbench201.oracle import EDGES, part_of

CIFAR = DataFacts(10, 3, 32)


def cell_of(*choices: str) -> Genotype:
    """The genotype with these operations, edge by edge."""
    nodes = [
        [(name, source) for name, (source, node) in zip(choices, EDGES, strict=True) if node == n] for n in (1, 2, 3)
    ]
    return read_genotype("+".join("|" + "".join(f"{name}~{source}|" for name, source in node) for node in nodes))


CELLS = [
    ("none",) * 6,
    ("skip_connect",) * 6,
    ("nor_conv_3x3",) * 6,
    ("nor_conv_1x1", "none", "nor_conv_3x3", "avg_pool_3x3", "nor_conv_1x1", "skip_connect"),
]


@pytest.mark.parametrize("choices", CELLS)
def test_parameters_and_multiply_adds_are_the_benchmarks(choices: tuple[str, ...]) -> None:
    large, small = choices.count("nor_conv_3x3"), choices.count("nor_conv_1x1")
    with torch.device("meta"):
        network = find_space("nasbench201").network(cell_of(*choices), CIFAR)
    assert sum(weight.numel() for weight in network.parameters()) == 73_306 + 243_040 * large + 28_000 * small
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, 3, 32, 32, device="meta"))
    millions = counter.get_total_flops() / 2e6
    assert millions == pytest.approx(7.783 + 35.389 * large + 3.932 * small, abs=4e-3)


def a_network(*choices: str, cells_per_stage: int = 1) -> NasBench201Network:
    """A small one in float64."""
    torch.manual_seed(0)
    network = NasBench201Space.network(
        cell_of(*choices), DataFacts(5, 3, 8), channels=4, cells_per_stage=cells_per_stage
    )
    return network.double()


def images(count: int = 4) -> Tensor:
    """Noise."""
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("choices", CELLS)
def test_a_network_is_the_affine_supernet_with_all_weight_on_its_operations(choices: tuple[str, ...]) -> None:
    network = a_network(*choices, cells_per_stage=2)
    space = NasBench201Space(channels=4, cells_per_stage=2, affine=True)
    supernet = NasBench201Supernet(space, DataFacts(5, 3, 8)).double()
    copy_into_supernet(network, supernet, choices)
    mixing = torch.zeros(6, 5, dtype=torch.float64)
    for row, name in enumerate(choices):
        mixing[row, OPERATIONS.index(name)] = 1.0
    wanted = supernet.logits(images(), {"cell": mixing}, batch_statistics=True, update=True)
    torch.testing.assert_close(network.train()(images()).final, wanted, rtol=0, atol=1e-12)
    wanted = supernet.logits(images(), {"cell": mixing}, batch_statistics=False, update=False)
    torch.testing.assert_close(network.eval()(images()).final, wanted, rtol=0, atol=1e-12)


def copy_into_supernet(network: NasBench201Network, supernet: NasBench201Supernet, choices: tuple[str, ...]) -> None:
    """Give the supernet the network's weights; operations that the genotype has not keep their own."""
    theirs = dict(network.named_parameters())
    kept = [row for row, name in enumerate(choices) if name != "none"]
    with torch.no_grad():
        for name, weight in supernet.named_parameters():
            if name in theirs:
                weight.copy_(theirs.pop(name))
        for index, cell in enumerate(supernet.skeleton.cells):
            for place, row in enumerate(kept):
                if "conv" in choices[row]:
                    where = f"skeleton.cells.{index}.operations.{place}"
                    stacked: Any = cast(Any, cell).convolutions[choices[row]]
                    part = part_of(row, stacked.weight.shape[1])
                    stacked.weight[part] = theirs.pop(f"{where}.1.weight")
                    stacked.batch_norm.weight[part] = theirs.pop(f"{where}.2.weight")
                    stacked.batch_norm.bias[part] = theirs.pop(f"{where}.2.bias")
    assert theirs == {}


def test_none_is_absent_and_a_node_without_inputs_is_zero() -> None:
    network = a_network("none", "nor_conv_1x1", "none", "none", "skip_connect", "none")
    cell = cast(Any, network.skeleton.cells[0])
    assert [type(module) for module in cell.operations][1:] == [nn.Identity]
    state = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    assert torch.equal(cell(state), torch.zeros_like(state)), "node 1 is zero, and node 3 is node 1"


def test_a_network_learns_and_its_statistics_move_in_training_alone() -> None:
    network = a_network(*CELLS[3]).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    labels = torch.tensor([0, 1, 2, 3])
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        scores = network(images())
        assert scores.auxiliary is None
        loss = nn.functional.cross_entropy(scores.final, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    network.eval()
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(images())
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())


def test_unknown_options_and_foreign_genotypes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"network\.layers = 20"):
        NasBench201Space.network(cell_of(*CELLS[0]), CIFAR, layers=20)
    one_node = CellGenotype("cell", 1, ((Connection("skip_connect", 0),),), (1,))
    with pytest.raises(GenotypeError, match="1 nodes, wanted are 3"):
        NasBench201Space.network(Genotype("nasbench201", (one_node,)), CIFAR)
