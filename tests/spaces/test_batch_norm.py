"""Batch norm by global statistics is batch norm of the global batch, in few collectives; its statistics stay wide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.batch_norm import BatchNorm, normalise, synchronise
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.mixing import Alphas
from tests.spaces.test_convolutional_supernet import CASES, a_batch, a_supernet, gradients, some_alphas


class OneRank:
    """The sum over a single rank, counted."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, moments: Tensor) -> Tensor:
        """The sum is what this rank has."""
        self.calls += 1
        return moments.clone()


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (6, 3)])
@pytest.mark.parametrize("affine", [False, True])
def test_it_is_pytorchs_with_running_statistics(shape: tuple[int, ...], affine: bool) -> None:
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    ours, plain = BatchNorm(3, affine=affine).double(), kind(3, affine=affine).double()
    inputs = torch.randn(shape, dtype=torch.float64) + 2
    for reducer in (None, OneRank()):
        ours.moments_reducer = reducer
        output = ours(inputs, batch_statistics=True, update=True)
        torch.testing.assert_close(output, plain(inputs), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours.running_mean, plain.running_mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours.running_var, plain.running_var, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours(inputs, batch_statistics=False), plain.eval()(inputs), rtol=1e-12, atol=1e-12)


def test_statistics_of_unequal_shards_are_those_of_the_whole_batch() -> None:
    whole = torch.randn(7, 3, 2, 2, dtype=torch.float64) * 3 + 1
    module, plain = BatchNorm(3).double(), BatchNorm(3).double()
    seen: list[Tensor] = []

    def record(moments: Tensor) -> Tensor:
        seen.append(moments)
        return moments

    module.moments_reducer = record
    shards = torch.split(whole, [3, 4])
    for shard in shards:
        module(shard, batch_statistics=True)
    module.moments_reducer = lambda moments: seen[0] + seen[1]
    output = torch.cat([module(shard, batch_statistics=True, update=index == 1) for index, shard in enumerate(shards)])
    torch.testing.assert_close(output, plain(whole, batch_statistics=True, update=True), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(module.running_var, plain.running_var, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("formulation", ["separate", "grouped"])
def test_a_synchronised_supernet_of_one_rank_is_the_local_one_in_few_collectives(formulation: str) -> None:
    space, batch = CASES["all operations"][0], a_batch(8, 5)
    local, synchronised = a_supernet(space, 8, formulation), a_supernet(space, 8, formulation)
    reducer = OneRank()
    synchronise(synchronised, reducer)
    alphas = some_alphas(space)
    expected, got = (
        gradients(network, alphas, network.loss(batch, None, Pass.WEIGHT, alphas.mixing()).loss)
        for network in (local, synchronised)
    )
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-10, atol=1e-10)
    assert reducer.calls == 1 + space.layers * (1 + 2 * space.nodes)


def test_norms_of_equal_depth_share_a_collective() -> None:
    modules, reducer = [BatchNorm(2), BatchNorm(3)], OneRank()
    synchronise(nn.ModuleList(modules), reducer)
    inputs = [torch.randn(4, 2, 3, 3), torch.randn(4, 3)]
    normalise([module.norm() for module in modules], inputs, batch_statistics=True)
    assert reducer.calls == 1


def test_bfloat16_inputs_leave_running_statistics_in_float32() -> None:
    module, inputs = BatchNorm(2), torch.randn(64, 2, 4, 4) + 3
    output = module(inputs.bfloat16(), batch_statistics=True, update=True)
    assert output.dtype == torch.bfloat16
    assert module.running_mean.dtype == torch.float32
    torch.testing.assert_close(module.running_mean, 0.1 * inputs.mean((0, 2, 3)), rtol=2e-3, atol=2e-3)


def test_a_supernet_runs_under_bfloat16_autocast() -> None:
    space = ConvolutionalSpace(layers=3, channels=4, nodes=2)
    supernet, alphas = ConvolutionalSupernet(space, DataFacts(5, 3, 8)), Alphas(space.layout(), torch.float32)
    batch = a_batch(8, 4)
    single = type(batch)(batch.inputs.float(), batch.targets, batch.draws)
    with torch.autocast("cpu", torch.bfloat16):
        loss = supernet.loss(single, None, Pass.ALPHA, alphas.mixing()).loss
    assert loss.dtype == torch.float32
    wide = supernet.loss(single, None, Pass.ALPHA, alphas.mixing()).loss
    torch.testing.assert_close(loss, wide, rtol=0.1, atol=0.1)
    assert all(gradient.isfinite().all() for gradient in gradients(supernet, alphas, loss).values())
