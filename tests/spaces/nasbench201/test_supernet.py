"""The supernet and the plain edge-by-edge oracle are one function, in float64 to 1e-12."""

from __future__ import annotations

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.nasbench201.space import NasBench201Space
from ray_darts.spaces.nasbench201.supernet import NasBench201Supernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.nasbench201.oracle import OracleSupernet, copy_into_oracle, matches

TOLERANCE = 1e-12
CASES = {
    "the benchmark's operations": (NasBench201Space(channels=4, cells_per_stage=1), 8),
    "two cells a stage, odd maps": (NasBench201Space(channels=2, cells_per_stage=2), 11),
    "affine": (NasBench201Space(channels=3, cells_per_stage=1, affine=True), 8),
    "another order": (
        NasBench201Space(channels=2, cells_per_stage=1, operations=("avg_pool_3x3", "nor_conv_3x3", "none")),
        8,
    ),
    "no convolutions": (
        NasBench201Space(channels=2, cells_per_stage=1, operations=("none", "skip_connect", "avg_pool_3x3")),
        9,
    ),
    "convolutions alone": (
        NasBench201Space(channels=2, cells_per_stage=1, operations=("nor_conv_1x1", "nor_conv_3x3")),
        8,
    ),
}


def a_batch(size: int, count: int, seed: int = 1) -> Batch:
    """Noise with labels, in float64."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, size, size, generator=draw, dtype=torch.float64)
    return Batch(images, torch.randint(0, 5, (count,), generator=draw), Draws(0, "test", 0, 0, count, count))


def both(space: NasBench201Space, size: int) -> tuple[NasBench201Supernet, OracleSupernet]:
    """A seeded supernet in float64, affine weights and statistics away from their start, and its oracle."""
    facts = DataFacts(5, 3, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        supernet, oracle = NasBench201Supernet(space, facts).double(), OracleSupernet(space, facts).double()
        with torch.no_grad():
            for name, tensor in [*supernet.named_parameters(), *supernet.named_buffers()]:
                if "batch_norm" in name:
                    tensor.add_(torch.rand_like(tensor))
    copy_into_oracle(supernet, oracle)
    return supernet, oracle


def mixtures(space: NasBench201Space) -> Tensor:
    """Alphas, away from zero."""
    return torch.randn(6, len(space.operations), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def assert_same(ours: dict[str, Tensor], plain: dict[str, Tensor], oracle: OracleSupernet) -> None:
    """Every tensor of the oracle is the supernet's, relative to its largest entry if above 1."""
    seen = set()
    for match in matches(oracle):
        if match.plain in plain:
            seen.add(match.plain)
            wanted = plain[match.plain]
            bound = TOLERANCE * max(1.0, wanted.abs().max().item())
            torch.testing.assert_close(ours[match.stacked][match.part], wanted, rtol=0, atol=bound, msg=match.plain)
    assert seen == set(plain)


@pytest.mark.parametrize("case", CASES)
def test_outputs_gradients_and_statistics_are_the_oracles(case: str) -> None:
    space, size = CASES[case]
    supernet, oracle = both(space, size)
    batch = a_batch(size, 4)
    ours_alphas, plain_alphas = mixtures(space).requires_grad_(), mixtures(space).requires_grad_()
    ours = supernet.loss(batch, None, Pass.WEIGHT, {"cell": ours_alphas.softmax(-1)})
    scores = oracle(batch.inputs, plain_alphas.softmax(-1))
    plain = F.cross_entropy(scores, batch.targets)
    correct = (scores.argmax(1) == batch.targets).sum()
    wanted = torch.stack([plain.detach() * 4, correct.double(), torch.tensor(4.0, dtype=torch.float64)])
    torch.testing.assert_close(ours.sums, wanted, rtol=TOLERANCE, atol=TOLERANCE)
    ours.loss.backward()  # type: ignore[no-untyped-call]
    plain.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours_alphas.grad, plain_alphas.grad, rtol=0, atol=TOLERANCE)
    assert_same(
        {name: weight.grad for name, weight in supernet.named_parameters() if weight.grad is not None},
        {name: weight.grad for name, weight in oracle.named_parameters() if weight.grad is not None},
        oracle,
    )
    statistics = {name: value for name, value in oracle.named_buffers() if "running" in name}
    assert_same(dict(supernet.named_buffers()), statistics, oracle)
    with torch.no_grad():
        plain = F.cross_entropy(oracle.eval()(batch.inputs, plain_alphas.softmax(-1)), batch.targets)
    evaluated = supernet.evaluate(batch, None, {"cell": ours_alphas.softmax(-1)})
    torch.testing.assert_close(evaluated.loss, plain, rtol=TOLERANCE, atol=TOLERANCE)
    assert not evaluated.loss.requires_grad


def test_only_the_weight_step_moves_running_statistics() -> None:
    space, size = CASES["the benchmark's operations"]
    supernet, oracle = both(space, size)
    oracle.move_statistics(False)
    batch, mixing = a_batch(size, 4), {"cell": mixtures(space).softmax(-1)}
    before = {name: value.clone() for name, value in supernet.named_buffers()}
    ours = supernet.loss(batch, None, Pass.ALPHA, mixing)
    plain = F.cross_entropy(oracle(batch.inputs, mixing["cell"]), batch.targets)
    torch.testing.assert_close(ours.loss, plain, rtol=TOLERANCE, atol=TOLERANCE)
    for name, value in supernet.named_buffers():
        assert torch.equal(value, before[name]), name
    supernet.loss(batch, None, Pass.WEIGHT, mixing)
    stayed = [name for name, value in supernet.named_buffers() if torch.equal(value, before[name])]
    assert not any("running" in name for name in stayed)


def test_second_derivatives_are_the_oracles() -> None:
    space, size = CASES["two cells a stage, odd maps"]
    supernet, oracle = both(space, size)
    batch = a_batch(size, 3)
    found = []
    for network in (supernet, oracle):
        alphas = mixtures(space).requires_grad_()
        weights = alphas.softmax(-1)
        if isinstance(network, NasBench201Supernet):
            loss, stem = network.loss(batch, None, Pass.ALPHA, {"cell": weights}).loss, network.skeleton.stem.weight
        else:
            loss = F.cross_entropy(network(batch.inputs, weights), batch.targets)
            stem = cast(torch.nn.Parameter, network.stem[0].weight)
        (inner,) = torch.autograd.grad(loss, [stem], create_graph=True)
        found.append(torch.autograd.grad(inner.square().sum(), [alphas])[0])
    bound = TOLERANCE * found[1].abs().max().item()
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=max(bound, TOLERANCE))


def test_an_edge_that_is_all_none_contributes_nothing() -> None:
    space, size = CASES["the benchmark's operations"]
    supernet, _ = both(space, size)
    mixing = torch.zeros(6, 5, dtype=torch.float64)
    mixing[:, 0] = 1.0
    images = a_batch(size, 4).inputs
    scores = supernet.logits(images, {"cell": mixing}, batch_statistics=True, update=False)
    torch.testing.assert_close(scores, scores[:1].expand_as(scores), rtol=0, atol=0, msg="no image can matter")
    mixing[3, 1] = 1.0
    skipped = supernet.logits(images, {"cell": mixing}, batch_statistics=True, update=False)
    assert (skipped - skipped[:1]).abs().max() > 0.01


def test_the_standard_supernet_has_the_benchmarks_size() -> None:
    supernet = NasBench201Supernet(NasBench201Space(), DataFacts(10, 3, 32))
    edges = 5 * (16**2 + 32**2 + 64**2) * (9 + 1) * 6
    around = 73_306
    assert sum(weight.numel() for weight in supernet.parameters()) == around + edges
