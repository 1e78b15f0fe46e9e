"""The operation `noise`: numbers of the batch, equal in all passes, sliced by rank; its input has no gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ray_darts.config import load_config
from ray_darts.data.batch import Batch
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import SupernetOptions
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.test_convolutional_supernet import a_batch
from tests.spaces.test_supernet_options import seeded, some_mixing

SPACE = ConvolutionalSpace(layers=3, channels=4, nodes=2, operations=("noise", "skip_connect", "dil_conv_3x3"))
FACTS = DataFacts(5, 3, 9)


def test_noise_is_standard_normal_and_each_shard_has_its_part() -> None:
    batch = a_batch(9, 6)
    whole = batch.draws.normal("noise.0.0", (6, 4, 9, 9), batch_dim=0, like=batch.inputs)
    assert abs(whole.mean().item()) < 4.5 / whole.numel() ** 0.5
    assert whole.std().item() == pytest.approx(1, abs=0.05)
    parts = [
        replace(batch.draws, start=start, stop=stop).normal(
            "noise.0.0", (stop - start, 4, 9, 9), batch_dim=0, like=batch.inputs
        )
        for start, stop in ((0, 2), (2, 6))
    ]
    assert torch.equal(torch.cat(parts), whole)
    other = replace(batch.draws, step=1).normal("noise.0.0", (6, 4, 9, 9), batch_dim=0, like=batch.inputs)
    assert not torch.equal(other, whole), "the next batch draws anew"


@pytest.mark.parametrize("skips_zeros", [False, True])
def test_a_supernet_adds_the_weighted_noise_of_each_edge(skips_zeros: bool) -> None:
    supernet = seeded(ConvolutionalSupernet, SPACE, FACTS, options=SupernetOptions(skips_zeros=skips_zeros))
    mixing, batch = some_mixing(SPACE, SupernetOptions()), a_batch(9, 4)
    first, again = (supernet.loss(batch, None, Pass.ALPHA, mixing).loss for _ in range(2))
    assert torch.equal(first, again), "at w, w', w+ and w- it is the same function"
    other = replace(batch, draws=replace(batch.draws, step=1))
    assert not torch.equal(supernet.loss(other, None, Pass.ALPHA, mixing).loss, first)
    gradients = torch.autograd.grad(first, list(mixing.values()))
    assert all(gradient[:, 0].abs().min() > 0 for gradient in gradients)


def test_a_cell_of_noise_alone_does_not_see_the_picture() -> None:
    supernet = seeded(ConvolutionalSupernet, SPACE, FACTS)
    mixing = {}
    for cell in SPACE.layout().cells:
        mixing[cell.name] = torch.zeros(cell.shape, dtype=torch.float64)
        mixing[cell.name][:, 0] = 0.5
    batch = a_batch(9, 4)
    changed = replace(batch, inputs=batch.inputs * 2 + 1)
    losses = [supernet.loss(each, None, Pass.ALPHA, mixing).loss for each in (batch, changed)]
    assert torch.equal(*losses)


def test_a_trained_network_draws_its_noise_from_the_batch_and_is_zero_without_one() -> None:
    cells = tuple(
        CellGenotype(
            name,
            2,
            ((Connection("noise", 0), Connection("skip_connect", 1)), (Connection("noise", 2), Connection("noise", 0))),
            (2, 3),
        )
        for name in ("normal", "reduction")
    )
    genotype = Genotype("convolutional", cells)
    genotype.check(SPACE.layout())
    assert genotype.count(SPACE.layout().parameter_free) == {"normal": 4, "reduction": 4}
    network = seeded(ConvolutionalSpace.network, genotype, FACTS, layers=3, channels=4)
    batch: Batch = a_batch(9, 4)
    network.eval()
    next_batch = replace(batch, draws=replace(batch.draws, step=1))
    with torch.no_grad():
        scores = [network.score(each, 0.0).final for each in (batch, batch, next_batch)]
        without = network(batch.inputs).final
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])
    assert torch.isfinite(without).all()
    assert not torch.equal(scores[0], without)


def test_the_presets_of_the_hard_spaces_have_their_published_candidates() -> None:
    s1 = load_config("s1").layout()
    assert s1.cell("normal").choices is not None
    letters = {
        "skip_connect": "k",
        "max_pool_3x3": "m",
        "avg_pool_3x3": "a",
        "sep_conv_3x3": "s",
        "dil_conv_3x3": "d",
        "dil_conv_5x5": "D",
    }
    coded = [" ".join("".join(letters[name] for name in row) for row in cell.choices or ()) for cell in s1.cells]
    assert coded == ["kd kD kD ks kd mk ks ks kd ks mk kd dD dD", "ma md ma ma kD ma ms kd kD ma ma kD kD kD"]
    assert [load_config(name).layout().cells[0].operations for name in ("s2", "s3", "s4")] == [
        ("skip_connect", "sep_conv_3x3"),
        ("none", "skip_connect", "sep_conv_3x3"),
        ("noise", "sep_conv_3x3"),
    ]
