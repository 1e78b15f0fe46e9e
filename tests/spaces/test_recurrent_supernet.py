"""The recurrent supernet against the plain oracle, in float64 with every dropout on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ray_darts.config import RecurrentSpace
from ray_darts.data.batch import Batch, Draws
from ray_darts.data.protocol import DataFacts
from ray_darts.spaces.protocol import Pass
from ray_darts.spaces.recurrent.supernet import RecurrentSupernet
from tests.spaces.recurrent_oracle import RecurrentOracle

NUM_WORDS = 11
TOLERANCE = 1e-12


def tokens(steps: int = 5, columns: int = 4, stream: str = "train") -> Batch:
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(NUM_WORDS, (steps + 1, columns), generator=generator)
    draws = Draws(seed=0, stream=stream, step=3, start=0, stop=columns, total=columns)
    return Batch(words[:-1], words[1:], draws, batch_dim=1, starts_epoch=True)


def supernet_of(space: RecurrentSpace) -> RecurrentSupernet:
    """With weights, alphas and statistics far from where they start, where every term counts."""
    supernet = RecurrentSupernet(space, DataFacts(NUM_WORDS)).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.normal_(0, 0.5, generator=generator)
        for buffer in supernet.buffers():
            buffer.uniform_(0.5, 1.5, generator=generator)
    return supernet


def tiny(**settings: object) -> RecurrentSpace:
    return RecurrentSpace.model_validate(
        {"nodes": 3, "embedding": 6, "hidden": 6, "dropout_words": 0.1, "temporal_activation_regularisation": 0.5}
        | settings
    )


def carry_of(columns: int = 4) -> Tensor:
    return torch.randn(columns, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def largest_difference(left: list[Tensor], right: list[Tensor]) -> float:
    return max((a - b).abs().max().item() / max(1.0, b.abs().max().item()) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("purpose", list(Pass))
@pytest.mark.parametrize("operations", [RecurrentSpace().operations, ("identity", "none", "tanh")])
def test_loss_gradients_and_statistics_agree_with_the_oracle(purpose: Pass, operations: tuple[str, ...]) -> None:
    space = tiny(operations=operations)
    supernet = supernet_of(space)
    oracle = RecurrentOracle(space, supernet)
    batch, carry = tokens(), carry_of()

    outcome = supernet.loss(batch, carry, purpose)
    loss, last = oracle.loss(batch, carry, weight_step=purpose is Pass.WEIGHT)

    assert abs(outcome.loss.item() - loss.item()) < TOLERANCE
    assert outcome.carry is not None
    assert largest_difference([outcome.carry], [last]) < TOLERANCE
    ours = [*supernet.weight_parameters().values(), *supernet.alpha_parameters().values()]
    theirs = [*oracle.weights.values(), *oracle.alphas.values()]
    gradients = torch.autograd.grad(outcome.loss, ours)
    assert largest_difference(list(gradients), list(torch.autograd.grad(loss, theirs))) < TOLERANCE
    statistics = [supernet.cell.batch_norm.running_mean, supernet.cell.batch_norm.running_var]
    assert largest_difference(statistics, [oracle.running_mean, oracle.running_var]) < TOLERANCE
