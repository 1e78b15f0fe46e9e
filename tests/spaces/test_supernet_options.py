"""Partial channels, edge weights and auxiliary skip connections: the supernets and the plain oracles are one function.

What is not active is not computed: the same loss and gradients, and no statistics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import AUXILIARY_SKIP, EDGES, SupernetOptions
from ray_darts.spaces import mixing as mixing_module
from ray_darts.spaces.convolutional.space import OPERATIONS, ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.nasbench201.space import NasBench201Space
from ray_darts.spaces.nasbench201.supernet import NasBench201Supernet
from ray_darts.spaces.supernet import Pass, Supernet
from tests.spaces import convolutional_oracle
from tests.spaces.convolutional_oracle import OracleSupernet
from tests.spaces.edge_oracle import PartialEdge
from tests.spaces.nasbench201 import oracle as nasbench201_oracle
from tests.spaces.test_convolutional_supernet import TOLERANCE, a_batch, worst_difference

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "golden" / "pcdarts_mixedop.npz"
SPACE = ConvolutionalSpace(layers=4, channels=8, nodes=3)
SMALL = ConvolutionalSpace(layers=3, channels=4, nodes=2, operations=("none", "dil_conv_3x3", "avg_pool_3x3"))
OPTIONS = {
    "partial": (SPACE, SupernetOptions(partial_channels=4), 8),
    "partial, odd maps": (SMALL, SupernetOptions(partial_channels=2, edge_weights=True), 9),
    "partial, edge weights": (SPACE, SupernetOptions(partial_channels=4, edge_weights=True), 8),
    "auxiliary": (SPACE, SupernetOptions(auxiliary_skip=True), 8),
    "auxiliary without a skip connection": (SMALL, SupernetOptions(auxiliary_skip=True), 9),
    "all": (SPACE, SupernetOptions(partial_channels=2, edge_weights=True, auxiliary_skip=True), 8),
}


def seeded(make: Any, *arguments: object, **options: object) -> Any:
    """A network in float64 whose weights a seed gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(*arguments, **options).double()


def some_mixing(space: ConvolutionalSpace | NasBench201Space, options: SupernetOptions) -> dict[str, Tensor]:
    """Seeded leaves: of each cell, and what the options ask for."""
    draw = torch.Generator().manual_seed(3)
    found = {}
    for cell in space.layout().cells:
        found[cell.name] = torch.rand(cell.shape, generator=draw, dtype=torch.float64)
        if options.edge_weights:
            found[EDGES + cell.name] = torch.rand(len(cell.edges), generator=draw, dtype=torch.float64)
    if options.auxiliary_skip:
        found[AUXILIARY_SKIP] = torch.rand((), generator=draw, dtype=torch.float64)
    return {name: table.requires_grad_() for name, table in found.items()}


def gradients(loss: Tensor, network: nn.Module, mixing: dict[str, Tensor]) -> dict[str, Tensor]:
    """By the names of parameters, those of the mixing weights as `alphas.<name>`."""
    named = {**dict(network.named_parameters()), **{f"alphas.{name}": table for name, table in mixing.items()}}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    pairs = zip(named.items(), found, strict=True)
    return {
        name: torch.zeros_like(value).reshape(-1, *value.shape[1:])
        if gradient is None
        else gradient.reshape(-1, *value.shape[1:])
        for (name, value), gradient in pairs
    }


@pytest.mark.parametrize("formulation", ["separate", "grouped"])
@pytest.mark.parametrize("case", OPTIONS)
def test_the_convolutional_supernet_is_the_oracles_function(case: str, formulation: str) -> None:
    space, options, size = OPTIONS[case]
    facts = DataFacts(5, 3, size)
    supernet = seeded(ConvolutionalSupernet, space, facts, formulation=formulation, options=options)
    oracle = seeded(OracleSupernet, space, facts, parts=options.partial_channels, auxiliary=options.auxiliary_skip)
    convolutional_oracle.copy_into_oracle(supernet, oracle)
    ours, plain = some_mixing(space, options), some_mixing(space, options)
    batch = a_batch(size, 4)
    found = supernet.loss(batch, None, Pass.WEIGHT, ours)
    wanted = oracle.loss(batch, None, Pass.WEIGHT, plain)
    torch.testing.assert_close(found.sums, wanted.sums, rtol=TOLERANCE, atol=TOLERANCE)
    left, right = gradients(found.loss, supernet, ours), gradients(wanted.loss, oracle, plain)
    assert all(gradient.abs().max() > 0 for name, gradient in right.items() if name.startswith("alphas."))
    assert worst_difference(left, right, oracle) < TOLERANCE
    statistics = {name: value for name, value in oracle.named_buffers() if "running" in name}
    assert worst_difference(dict(supernet.named_buffers()), statistics, oracle) < TOLERANCE


@pytest.mark.parametrize(
    "options",
    [
        SupernetOptions(partial_channels=2),
        SupernetOptions(partial_channels=4, edge_weights=True),
        SupernetOptions(partial_channels=2, edge_weights=True, auxiliary_skip=True),
    ],
    ids=str,
)
def test_the_supernet_of_nasbench201_is_the_oracles_function(options: SupernetOptions) -> None:
    space, facts = NasBench201Space(channels=4, cells_per_stage=1), DataFacts(5, 3, 8)
    supernet = seeded(NasBench201Supernet, space, facts, options=options)
    oracle = seeded(nasbench201_oracle.OracleSupernet, space, facts, options.partial_channels)
    nasbench201_oracle.copy_into_oracle(supernet, oracle)
    ours, plain = some_mixing(space, options), some_mixing(space, options)
    batch = a_batch(8, 4)
    found = supernet.loss(batch, None, Pass.WEIGHT, ours)
    scores = oracle(batch.inputs, plain["cell"], plain.get("edges.cell"), plain.get(AUXILIARY_SKIP))
    wanted = F.cross_entropy(scores, batch.targets)
    torch.testing.assert_close(found.loss, wanted, rtol=TOLERANCE, atol=TOLERANCE)
    left, right = gradients(found.loss, supernet, ours), gradients(wanted, oracle, plain)
    for name in right:
        if name.startswith("alphas."):
            assert right[name].abs().max() > 0
            torch.testing.assert_close(left[name], right[name], rtol=0, atol=TOLERANCE)
    for match in nasbench201_oracle.matches(oracle):
        if match.plain in right:
            found_part = left[match.stacked][match.part]
            torch.testing.assert_close(found_part, right[match.plain], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_oracles_partial_edge_is_the_published_code(stride: int) -> None:
    if not VECTORS.exists():
        pytest.skip(f"the reference's vectors are not beside this checkout ({VECTORS.name})")
    with np.load(VECTORS, allow_pickle=False) as file:
        vectors = {name: file[name] for name in file}
    edge = PartialEdge(OPERATIONS, 8, stride, 0.1, 4).double()
    with torch.no_grad():
        for index, name in enumerate(vectors[f"w_names_s{stride}"]):
            parts = str(name).split(".")
            module = edge.mixed.operations[OPERATIONS[int(parts[1])]]
            weights = vectors[f"s{stride}_w{index:04d}"]
            target = (
                module.get_submodule({"conv_1": "first", "conv_2": "second"}[parts[2]])
                if parts[2].startswith("conv_")
                else module.get_submodule(parts[3])
            )
            target.weight.copy_(torch.from_numpy(weights))  # type: ignore[operator]
        found = edge(torch.from_numpy(vectors["x"]), torch.from_numpy(vectors["mix"]))
    np.testing.assert_allclose(found.numpy(), vectors[f"out_s{stride}"], rtol=0, atol=TOLERANCE)
    numbers = torch.arange(8.0).view(1, 8, 1, 1)
    order = mixing_module.shuffle(numbers, 4).flatten().long().tolist()
    assert order == vectors["shuffle_of_channel_index"].tolist()


def sparse(table: Tensor, seed: int) -> Tensor:
    """The same with about two of three entries 0, and no entry at all in the first row."""
    kept = torch.rand(table.shape, generator=torch.Generator().manual_seed(seed)) < 0.35
    kept[0] = False
    return (table.detach() * kept).requires_grad_()


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("space", [SPACE, NasBench201Space(channels=4, cells_per_stage=1)], ids=lambda s: s.kind)
def test_what_is_not_active_is_not_computed_and_changes_nothing_else(
    space: ConvolutionalSpace | NasBench201Space, auxiliary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = ConvolutionalSupernet if isinstance(space, ConvolutionalSpace) else NasBench201Supernet
    whole = SupernetOptions(partial_channels=2, edge_weights=True, auxiliary_skip=auxiliary)
    part = SupernetOptions(partial_channels=2, edge_weights=True, auxiliary_skip=auxiliary, skips_zeros=True)
    networks: list[Supernet] = [seeded(make, space, DataFacts(5, 3, 8), options=options) for options in (whole, part)]
    tables = [
        {
            name: sparse(table, 5) if not name.startswith(EDGES) and table.dim() else table
            for name, table in each.items()
        }
        for each in (some_mixing(space, whole), some_mixing(space, whole))
    ]
    reads = []
    inner = mixing_module._active

    def counting(operations: Any) -> Any:
        reads.append(operations)
        return inner(operations)

    monkeypatch.setattr(mixing_module, "_active", counting)
    batch = a_batch(8, 4)
    losses = [net.loss(batch, None, Pass.WEIGHT, mixing).loss for net, mixing in zip(networks, tables, strict=True)]
    assert len(reads) == 1, "one read by the host in a pass, of the network that skips"
    torch.testing.assert_close(losses[0], losses[1], rtol=TOLERANCE, atol=TOLERANCE)
    dense, active = (gradients(loss, net, mixing) for loss, net, mixing in zip(losses, networks, tables, strict=True))
    for name, gradient in dense.items():
        if not name.startswith("alphas."):
            torch.testing.assert_close(active[name], gradient, rtol=1e-11, atol=TOLERANCE)
        elif name.removeprefix("alphas.") in {cell.name for cell in space.layout().cells}:
            used = tables[0][name.removeprefix("alphas.")] != 0
            torch.testing.assert_close(active[name][used], gradient[used], rtol=1e-11, atol=TOLERANCE)
            assert active[name][~used].abs().max() == 0, "what is not computed has no gradient"
    moved = [
        sum(int((value != (1.0 if name.endswith("var") else 0.0)).sum()) for name, value in net.named_buffers())
        for net in networks
    ]
    assert moved[1] < moved[0], "statistics of what is not computed stay as they were"


@pytest.mark.parametrize("formulation", ["separate", "grouped"])
def test_edges_with_few_operations_compute_those_alone(formulation: str) -> None:
    """The oracle mixes all operations with the weights 0 where an edge has none; only active statistics move."""
    names = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3", "dil_conv_5x5")
    rows = [["skip_connect", "sep_conv_3x3"], ["none", "dil_conv_5x5"], ["max_pool_3x3", "skip_connect"]]
    choices = {"normal": [*rows, *rows[:2]], "reduction": [*rows[::-1], *rows[1:]]}
    space = ConvolutionalSpace.model_validate(
        {"layers": 4, "channels": 4, "nodes": 2, "operations": names, "edge_operations": choices}
    )
    facts = DataFacts(5, 3, 8)
    supernet = seeded(ConvolutionalSupernet, space, facts, formulation=formulation)
    oracle = seeded(OracleSupernet, space, facts)
    convolutional_oracle.copy_into_oracle(supernet, oracle)
    allowed = {cell.name: torch.tensor(cell.allowed) for cell in space.layout().cells}
    tables = [
        {name: (table.detach() * allowed[name]).requires_grad_() for name, table in each.items()}
        for each in (some_mixing(space, SupernetOptions()), some_mixing(space, SupernetOptions()))
    ]
    batch = a_batch(8, 4)
    found = supernet.loss(batch, None, Pass.WEIGHT, tables[0])
    wanted = oracle.loss(batch, None, Pass.WEIGHT, tables[1])
    torch.testing.assert_close(found.loss, wanted.loss, rtol=TOLERANCE, atol=TOLERANCE)
    left, right = gradients(found.loss, supernet, tables[0]), gradients(wanted.loss, oracle, tables[1])
    for name, table in allowed.items():
        real = table & torch.tensor([operation != "none" for operation in names])
        torch.testing.assert_close(left[f"alphas.{name}"][real], right[f"alphas.{name}"][real], rtol=0, atol=TOLERANCE)
    weights = {name: gradient for name, gradient in right.items() if not name.startswith("alphas.")}
    assert worst_difference(left, weights, oracle) < TOLERANCE
