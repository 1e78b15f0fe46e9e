"""The pass of a disturbance scores as the evaluation does, and is differentiable in the mixing weights."""

from __future__ import annotations

import pytest
import torch

from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import SupernetOptions
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.nasbench201.space import NasBench201Space
from ray_darts.spaces.nasbench201.supernet import NasBench201Supernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.test_convolutional_supernet import a_batch
from tests.spaces.test_recurrent_supernet import alphas_of, carry_of, supernet_of, tiny, tokens
from tests.spaces.test_supernet_options import seeded, some_mixing


@pytest.mark.parametrize("kind", ["convolutional", "nasbench201"])
def test_images_are_scored_with_running_statistics(kind: str) -> None:
    space: ConvolutionalSpace | NasBench201Space = ConvolutionalSpace(layers=3, channels=4, nodes=2)
    make: object = ConvolutionalSupernet
    if kind == "nasbench201":
        space, make = NasBench201Space(channels=4, cells_per_stage=1), NasBench201Supernet
    supernet = seeded(make, space, DataFacts(5, 3, 8))
    mixing, batch = some_mixing(space, SupernetOptions()), a_batch(8, 4)
    for _ in range(3):  # running statistics away from their start
        supernet.loss(batch, None, Pass.WEIGHT, mixing)
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    found = supernet.loss(batch, None, Pass.DISTURBANCE, mixing)
    assert torch.equal(found.sums, supernet.evaluate(batch, None, mixing).sums)
    assert not torch.equal(found.sums, supernet.loss(batch, None, Pass.ALPHA, mixing).sums)
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(found.loss, list(mixing.values())))
    assert all(torch.equal(buffer, before[name]) for name, buffer in supernet.named_buffers())


def test_text_is_scored_without_dropout() -> None:
    space = tiny()
    supernet, alphas, batch, carry = supernet_of(space), alphas_of(space), tokens(), carry_of()
    found = supernet.loss(batch, carry, Pass.DISTURBANCE, alphas.mixing())
    assert torch.equal(found.sums, supernet.evaluate(batch, carry, alphas.mixing()).sums)
    assert not torch.equal(found.sums, supernet.loss(batch, carry, Pass.ALPHA, alphas.mixing()).sums)
