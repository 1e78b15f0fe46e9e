"""The supernet and the plain edge-by-edge oracle are one function, in float64 to 1e-12."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.supernet import Pass, Supernet
from tests.spaces.convolutional_oracle import Match, OracleSupernet, copy_into_oracle, matches
from tests.spaces.mixing import Alphas

TOLERANCE = 1e-12
CASES = {
    "all operations": (ConvolutionalSpace(layers=3, channels=4, nodes=4), 8, 5),
    "odd maps": (ConvolutionalSpace(layers=3, channels=2, nodes=2), 11, 4),
    "three nodes, five layers": (ConvolutionalSpace(layers=5, channels=2, nodes=3), 8, 4),
    "one node": (ConvolutionalSpace(layers=3, channels=2, nodes=1), 8, 3),
    "imagenet stem, odd maps": (ConvolutionalSpace(layers=4, channels=4, nodes=2, stem="imagenet"), 49, 4),
    "no pools, no skip": (
        ConvolutionalSpace(layers=3, channels=2, nodes=2, operations=("dil_conv_5x5", "sep_conv_3x3")),
        8,
        4,
    ),
    "no convolutions": (
        ConvolutionalSpace(layers=3, channels=2, nodes=3, operations=("skip_connect", "none", "max_pool_3x3")),
        9,
        4,
    ),
    "pools alone": (
        ConvolutionalSpace(layers=3, channels=2, nodes=2, operations=("avg_pool_3x3", "max_pool_3x3")),
        8,
        4,
    ),
    "repeated convolutions apart": (
        ConvolutionalSpace(layers=3, channels=2, nodes=2, operations=("sep_conv_5x5", "dil_conv_3x3", "sep_conv_3x3")),
        8,
        4,
    ),
    "no repeated convolutions": (
        ConvolutionalSpace(layers=3, channels=2, nodes=2, operations=("none", "dil_conv_3x3", "skip_connect")),
        8,
        4,
    ),
}


def a_batch(size: int, count: int, seed: int = 1) -> Batch:
    """Noise with labels, in float64."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, size, size, generator=draw, dtype=torch.float64)
    return Batch(images, torch.randint(0, 5, (count,), generator=draw), Draws(0, "test", 0, 0, count, count))


def a_supernet(
    space: ConvolutionalSpace, size: int, formulation: str = "separate", *, checkpoint: bool = False
) -> ConvolutionalSupernet:
    """A seeded supernet in float64."""
    assert formulation in ("separate", "grouped")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ConvolutionalSupernet(
            space,
            DataFacts(5, 3, size),
            checkpoint_cells=checkpoint,
            formulation="grouped" if formulation == "grouped" else "separate",
        ).double()


def some_alphas(space: ConvolutionalSpace) -> Alphas:
    """Seeded alphas away from zero."""
    return Alphas(space.layout()).normal_(generator=torch.Generator().manual_seed(3))


def gradients(network: Supernet, alphas: Alphas, loss: Tensor) -> dict[str, Tensor]:
    """By parameter name, those of the alphas included."""
    named = {**dict(network.named_parameters()), **alphas.named()}
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def worst_difference(ours: dict[str, Tensor], plain: dict[str, Tensor], oracle: OracleSupernet) -> float:
    """The largest |difference| over what both have, relative to the largest entry of its tensor if above 1."""
    worst, seen = 0.0, set()
    alphas = [Match(name, name, slice(None)) for name in plain if name.startswith("alphas.")]
    for match in [*matches(oracle), *alphas]:
        if match.plain in plain:
            seen.add(match.plain)
            wanted = plain[match.plain]
            scale = max(1.0, wanted.abs().max().item())
            worst = max(worst, (ours[match.stacked][match.part] - wanted).abs().max().item() / scale)
    assert seen == set(plain)
    return worst


@pytest.fixture(params=CASES, name="case")
def _case(request: pytest.FixtureRequest) -> tuple[ConvolutionalSpace, int, int]:
    return CASES[request.param]


@pytest.mark.parametrize("formulation", ["separate", "grouped"])
def test_both_formulations_are_the_oracles_function(
    case: tuple[ConvolutionalSpace, int, int], formulation: str
) -> None:
    space, size, count = case
    supernet, oracle = a_supernet(space, size, formulation), OracleSupernet(space, DataFacts(5, 3, size)).double()
    copy_into_oracle(supernet, oracle)
    batch, alphas, others = a_batch(size, count), some_alphas(space), some_alphas(space)
    ours = supernet.loss(batch, None, Pass.WEIGHT, alphas.mixing())
    plain = oracle.loss(batch, None, Pass.WEIGHT, others.mixing())
    torch.testing.assert_close(ours.sums, plain.sums, rtol=TOLERANCE, atol=TOLERANCE)
    found = gradients(supernet, alphas, ours.loss)
    assert worst_difference(found, gradients(oracle, others, plain.loss), oracle) < TOLERANCE
    statistics = {name: value for name, value in oracle.named_buffers() if "running" in name}
    assert worst_difference(dict(supernet.named_buffers()), statistics, oracle) < TOLERANCE
    scores = supernet.evaluate(batch, None, alphas.mixing()).sums
    expected = oracle.evaluate(batch, None, others.mixing()).sums
    torch.testing.assert_close(scores, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_the_standard_supernet_has_the_papers_size() -> None:
    supernet = ConvolutionalSupernet(ConvolutionalSpace(), DataFacts(10, 3, 32))
    assert sum(weight.numel() for weight in supernet.parameters()) == 1_930_618
    assert {cell.name: cell.shape for cell in supernet.layout.cells} == {"normal": (14, 8), "reduction": (14, 8)}


@pytest.mark.parametrize("formulation", ["separate", "grouped"])
def test_only_the_weight_step_moves_running_statistics(formulation: str) -> None:
    space = CASES["odd maps"][0]
    supernet, mixing = a_supernet(space, 9, formulation), some_alphas(space).mixing()
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    supernet.loss(a_batch(9, 4), None, Pass.ALPHA, mixing)
    supernet.evaluate(a_batch(9, 4), None, mixing)
    assert all(torch.equal(buffer, before[name]) for name, buffer in supernet.named_buffers())
    supernet.loss(a_batch(9, 4), None, Pass.WEIGHT, mixing)
    stayed = [name for name, buffer in supernet.named_buffers() if torch.equal(buffer, before[name])]
    assert not any("running" in name for name in stayed)


@pytest.mark.parametrize("purpose", list(Pass))
@pytest.mark.parametrize("formulation", ["separate", "grouped"])
def test_recomputed_cells_change_nothing_bit_for_bit(formulation: str, purpose: Pass) -> None:
    space, batch = CASES["all operations"][0], a_batch(8, 3)
    kept, recomputed = a_supernet(space, 8, formulation), a_supernet(space, 8, formulation, checkpoint=True)
    alphas = some_alphas(space)
    first, second = (network.loss(batch, None, purpose, alphas.mixing()).loss for network in (kept, recomputed))
    expected, got = gradients(kept, alphas, first), gradients(recomputed, alphas, second)
    assert all(torch.equal(got[name], gradient) for name, gradient in expected.items())
    buffers = dict(recomputed.named_buffers())
    assert all(torch.equal(buffers[name], buffer) for name, buffer in kept.named_buffers())


@pytest.mark.parametrize("purpose", list(Pass))
@pytest.mark.parametrize("formulation", ["separate", "grouped"])
def test_recomputed_cells_have_the_same_second_derivatives(formulation: str, purpose: Pass) -> None:
    """d/d(alpha, w) of <dL/d(w, alpha), v>: the recomputed graph is walked twice, and each walk recomputes it."""
    space = CASES["odd maps"][0]
    batch, alphas = a_batch(8, 3), some_alphas(space)
    networks = a_supernet(space, 8, formulation), a_supernet(space, 8, formulation, checkpoint=True)
    draw = torch.Generator().manual_seed(4)
    leaves = [*networks[0].parameters(), *alphas.parameters()]
    directions = [torch.randn(leaf.shape, generator=draw, dtype=leaf.dtype) for leaf in leaves]
    found = []
    for network in networks:
        named = [*network.parameters(), *alphas.parameters()]
        loss = network.loss(batch, None, purpose, alphas.mixing()).loss
        inner = torch.autograd.grad(loss, named, create_graph=True)
        total = torch.stack([(g * v).sum() for g, v in zip(inner, directions, strict=True)]).sum()
        found.append(torch.autograd.grad(total, named))
    for kept, recomputed in zip(*found, strict=True):
        assert kept.abs().max() > 1e-9
        torch.testing.assert_close(recomputed, kept, rtol=1e-12, atol=1e-12)
    buffers = dict(networks[1].named_buffers())
    assert all(torch.equal(buffers[name], buffer) for name, buffer in networks[0].named_buffers())


def test_both_formulations_have_the_same_second_derivatives() -> None:
    """As above, with a table for each cell: of six cells, the first two are alike."""
    space = ConvolutionalSpace(layers=6, channels=2, nodes=2)
    found = []
    for formulation in ("separate", "grouped"):
        network, draw = a_supernet(space, 8, formulation), torch.Generator().manual_seed(5)
        tables = {
            name: torch.rand(count, *space.layout().cell(name).shape, generator=draw, dtype=torch.float64)
            for name, count in network.layers_of_cells.items()
        }
        leaves = [*(table.requires_grad_() for table in tables.values()), *network.parameters()]
        loss = network.loss(a_batch(8, 3), None, Pass.ALPHA, tables).loss
        inner = torch.autograd.grad(loss, leaves, create_graph=True)
        total = torch.stack([(g * torch.randn(g.shape, generator=draw, dtype=g.dtype)).sum() for g in inner]).sum()
        found.append(torch.autograd.grad(total, leaves))
    for separate, grouped in zip(*found, strict=True):
        largest = separate.abs().max()
        assert largest > 1e-9
        assert (grouped - separate).abs().max() < 1e-10 * largest


def test_recomputed_cells_keep_less_for_the_backward_pass() -> None:
    def saved_bytes(*, checkpoint: bool) -> int:
        sizes: list[int] = []
        space = CASES["all operations"][0]
        supernet, alphas = a_supernet(space, 8, checkpoint=checkpoint), some_alphas(space)

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            supernet.loss(a_batch(8, 3), None, Pass.ALPHA, alphas.mixing())
        return sum(sizes)

    assert saved_bytes(checkpoint=True) < saved_bytes(checkpoint=False) / 10


def test_an_empty_shard_adds_nothing_to_an_evaluation() -> None:
    space = CASES["all operations"][0]
    assert a_supernet(space, 8).evaluate(a_batch(8, 0), None, some_alphas(space).mixing()).sums.tolist() == [
        0.0,
        0.0,
        0.0,
    ]
