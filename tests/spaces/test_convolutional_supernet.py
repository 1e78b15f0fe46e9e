"""The supernet and the plain edge-by-edge oracle are one function, in float64 to 1e-12."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ray_darts.config import ConvolutionalSpace
from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.supernet import Pass, Supernet
from tests.spaces.convolutional_oracle import OracleSupernet, copy_into_oracle, matches

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
    """A seeded supernet in float64 with alphas away from zero."""
    assert formulation in ("separate", "grouped")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        supernet = ConvolutionalSupernet(
            space,
            DataFacts(5, 3, size),
            checkpoint_cells=checkpoint,
            formulation="grouped" if formulation == "grouped" else "separate",
        ).double()
        for alphas in supernet.alpha_parameters().values():
            torch.nn.init.normal_(alphas)
    return supernet


def gradients(network: Supernet, loss: Tensor) -> dict[str, Tensor]:
    """By parameter name."""
    named = dict(network.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def worst_difference(ours: dict[str, Tensor], plain: dict[str, Tensor], oracle: OracleSupernet) -> float:
    """The largest |difference| over what both have, relative to the largest entry of its tensor if above 1."""
    worst, seen = 0.0, set()
    for match in matches(oracle):
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
    batch = a_batch(size, count)
    ours, plain = supernet.loss(batch, None, Pass.WEIGHT), oracle.loss(batch, None, Pass.WEIGHT)
    torch.testing.assert_close(ours.sums, plain.sums, rtol=TOLERANCE, atol=TOLERANCE)
    assert worst_difference(gradients(supernet, ours.loss), gradients(oracle, plain.loss), oracle) < TOLERANCE
    statistics = {name: value for name, value in oracle.named_buffers() if "running" in name}
    assert worst_difference(dict(supernet.named_buffers()), statistics, oracle) < TOLERANCE
    scores = supernet.evaluate(batch, None).sums
    torch.testing.assert_close(scores, oracle.evaluate(batch, None).sums, rtol=TOLERANCE, atol=TOLERANCE)


def test_the_standard_supernet_has_the_papers_size() -> None:
    supernet = ConvolutionalSupernet(ConvolutionalSpace(), DataFacts(10, 3, 32))
    assert sum(weight.numel() for weight in supernet.weight_parameters().values()) == 1_930_618
    assert {name: tuple(a.shape) for name, a in supernet.alpha_parameters().items()} == {
        "normal": (14, 8),
        "reduction": (14, 8),
    }


@pytest.mark.parametrize("formulation", ["separate", "grouped"])
def test_only_the_weight_step_moves_running_statistics(formulation: str) -> None:
    supernet = a_supernet(CASES["odd maps"][0], 9, formulation)
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    supernet.loss(a_batch(9, 4), None, Pass.ALPHA)
    supernet.evaluate(a_batch(9, 4), None)
    assert all(torch.equal(buffer, before[name]) for name, buffer in supernet.named_buffers())
    supernet.loss(a_batch(9, 4), None, Pass.WEIGHT)
    assert not any(torch.equal(buffer, before[name]) for name, buffer in supernet.named_buffers())


@pytest.mark.parametrize("purpose", list(Pass))
@pytest.mark.parametrize("formulation", ["separate", "grouped"])
def test_recomputed_cells_change_nothing_bit_for_bit(formulation: str, purpose: Pass) -> None:
    space, batch = CASES["all operations"][0], a_batch(8, 3)
    kept, recomputed = a_supernet(space, 8, formulation), a_supernet(space, 8, formulation, checkpoint=True)
    first, second = kept.loss(batch, None, purpose).loss, recomputed.loss(batch, None, purpose).loss
    expected, got = gradients(kept, first), gradients(recomputed, second)
    assert all(torch.equal(got[name], gradient) for name, gradient in expected.items())
    buffers = dict(recomputed.named_buffers())
    assert all(torch.equal(buffers[name], buffer) for name, buffer in kept.named_buffers())


def test_recomputed_cells_keep_less_for_the_backward_pass() -> None:
    def saved_bytes(*, checkpoint: bool) -> int:
        sizes: list[int] = []
        supernet = a_supernet(CASES["all operations"][0], 8, checkpoint=checkpoint)

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            supernet.loss(a_batch(8, 3), None, Pass.ALPHA)
        return sum(sizes)

    assert saved_bytes(checkpoint=True) < saved_bytes(checkpoint=False) / 10


def test_an_empty_shard_adds_nothing_to_an_evaluation() -> None:
    supernet = a_supernet(CASES["all operations"][0], 8)
    assert supernet.evaluate(a_batch(8, 0), None).sums.tolist() == [0.0, 0.0, 0.0]
