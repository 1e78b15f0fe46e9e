"""Dropout on skip connections: a mask of the batch on every edge, none in evaluation, whatever computes the cell."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from ray_darts.methods.named import BetaDarts
from ray_darts.methods.parts import SkipDropout
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import SKIP_DROPOUT, SupernetOptions
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.mixing import CellMixture
from ray_darts.spaces.nasbench201.space import NasBench201Space
from ray_darts.spaces.nasbench201.supernet import NasBench201Supernet
from ray_darts.spaces.supernet import Pass
from tests.methods.test_relaxations import at, draws
from tests.spaces.test_convolutional_supernet import a_batch
from tests.spaces.test_supernet_options import seeded, some_mixing

SPACES = [
    ConvolutionalSpace(layers=3, channels=4, nodes=2, operations=("none", "skip_connect", "dil_conv_3x3")),
    NasBench201Space(channels=4, cells_per_stage=1),
]


def test_a_mask_keeps_the_mean_and_drops_at_its_rate() -> None:
    batch, table = a_batch(16, 8), torch.zeros(1, 1, dtype=torch.float64)
    mixture = CellMixture(table, None, None, None, batch.draws, torch.tensor(0.3, dtype=torch.float64))
    ones = torch.ones(8, 4, 16, 16, dtype=torch.float64)
    kept = mixture.drop(ones, "0.0")
    assert (kept == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(kept[kept > 0], torch.full_like(kept[kept > 0], 1 / 0.7))
    assert torch.equal(kept, mixture.drop(ones, "0.0"))
    assert not torch.equal(kept, mixture.drop(ones, "0.1")), "each edge has its own"
    parts = [
        replace(mixture, draws=replace(batch.draws, start=start, stop=stop)).drop(ones[start:stop], "0.0")
        for start, stop in ((0, 3), (3, 8))
    ]
    assert torch.equal(torch.cat(parts), kept), "each rank has its part"
    assert torch.equal(replace(mixture, skip_dropout=None).drop(ones, "0.0"), ones)


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.kind)
def test_all_ways_to_compute_a_cell_drop_the_same(
    space: ConvolutionalSpace | NasBench201Space, auxiliary: bool
) -> None:
    make = ConvolutionalSupernet if isinstance(space, ConvolutionalSpace) else NasBench201Supernet
    options = SupernetOptions(skip_dropout=True, auxiliary_skip=auxiliary)
    networks = [
        seeded(make, space, DataFacts(5, 3, 8), options=each) for each in (options, replace(options, skips_zeros=True))
    ]
    batch = a_batch(8, 4)
    rate = {SKIP_DROPOUT: torch.tensor(0.4, dtype=torch.float64)}
    mixing = some_mixing(space, options)
    losses = [network.loss(batch, None, Pass.ALPHA, {**mixing, **rate}).loss for network in networks]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=1e-12)
    found = [torch.autograd.grad(loss, list(mixing.values())) for loss in losses]
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)
    plain = networks[0].loss(batch, None, Pass.ALPHA, mixing).loss
    assert abs(plain.item() - losses[0].item()) > 1e-6
    nothing = {SKIP_DROPOUT: torch.tensor(0.0, dtype=torch.float64)}
    same = networks[0].loss(batch, None, Pass.ALPHA, {**mixing, **nothing}).loss
    torch.testing.assert_close(same, plain, rtol=1e-12, atol=1e-12)
    for evaluate in (networks[0].evaluate, networks[0].evaluate_by_batch):
        assert torch.equal(evaluate(batch, None, {**mixing, **rate}).sums, evaluate(batch, None, mixing).sums)
    disturbed = [networks[0].loss(batch, None, Pass.DISTURBANCE, each).loss for each in (mixing, {**mixing, **rate})]
    assert torch.equal(*disturbed)


def test_the_rate_falls_as_published() -> None:
    """Of 25 epochs: rate * (24 - e) / 25 before epoch 10, then rate * exp(-0.2 (e - 10))."""
    part = SkipDropout(rate=0.4)
    wanted = [0.4 * (24 - e) / 25 if e < 10 else 0.4 * math.exp(-0.2 * (e - 10)) for e in range(25)]
    assert [part.rate_at(at(e, 25)) for e in range(25)] == pytest.approx(wanted)
    method = BetaDarts(skip_dropout=part)
    layout = SPACES[0].layout()
    parameters = {group.name: torch.zeros(group.shape) for group in method.groups(layout)}
    found = method.weights(layout, parameters, draws(), at(3, 25))
    assert float(found[SKIP_DROPOUT]) == pytest.approx(wanted[3])
    assert method.supernet_options.needed == {"skip_dropout"}
