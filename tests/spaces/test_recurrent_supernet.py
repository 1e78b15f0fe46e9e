"""The recurrent supernet against the plain oracle, in float64 with every dropout on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.recurrent.space import RecurrentSpace
from ray_darts.spaces.recurrent.supernet import RecurrentSupernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.mixing import Alphas
from tests.spaces.recurrent_oracle import RecurrentOracle

NUM_WORDS = 11
TOLERANCE = 1e-12


def tokens(steps: int = 5, columns: int = 4, stream: str = "train") -> Batch:
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(NUM_WORDS, (steps + 1, columns), generator=generator)
    draws = Draws(seed=0, stream=stream, step=3, start=0, stop=columns, total=columns)
    return Batch(words[:-1], words[1:], draws, batch_dim=1, starts_epoch=True)


def supernet_of(space: RecurrentSpace) -> RecurrentSupernet:
    """With weights and statistics far from where they start, where every term counts."""
    supernet = RecurrentSupernet(space, DataFacts(NUM_WORDS)).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.normal_(0, 0.5, generator=generator)
        for buffer in supernet.buffers():
            buffer.uniform_(0.5, 1.5, generator=generator)
    return supernet


def alphas_of(space: RecurrentSpace) -> Alphas:
    """Seeded alphas away from zero."""
    return Alphas(space.layout()).normal_(0.5, torch.Generator().manual_seed(6))


def tiny(**settings: object) -> RecurrentSpace:
    return RecurrentSpace.model_validate(
        {"nodes": 3, "embedding": 6, "hidden": 6, "dropout_words": 0.1, "temporal_activation_regularisation": 0.5}
        | settings
    )


def carry_of(columns: int = 4) -> Tensor:
    return torch.randn(columns, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def largest_difference(left: list[Tensor], right: list[Tensor]) -> float:
    return max((a - b).abs().max().item() / max(1.0, b.abs().max().item()) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("purpose", [Pass.WEIGHT, Pass.ALPHA])
@pytest.mark.parametrize("operations", [RecurrentSpace().operations, ("identity", "none", "tanh")])
def test_loss_gradients_and_statistics_agree_with_the_oracle(purpose: Pass, operations: tuple[str, ...]) -> None:
    space = tiny(operations=operations)
    supernet, alphas = supernet_of(space), alphas_of(space)
    oracle = RecurrentOracle(space, supernet, dict(alphas.cells.items()))
    batch, carry = tokens(), carry_of()

    outcome = supernet.loss(batch, carry, purpose, alphas.mixing())
    loss, last = oracle.loss(batch, carry, weight_step=purpose is Pass.WEIGHT)

    assert abs(outcome.loss.item() - loss.item()) < TOLERANCE
    assert outcome.carry is not None
    assert largest_difference([outcome.carry], [last]) < TOLERANCE
    ours = [*supernet.parameters(), *alphas.parameters()]
    theirs = [*oracle.weights.values(), *oracle.alphas.values()]
    gradients = torch.autograd.grad(outcome.loss, ours)
    assert largest_difference(list(gradients), list(torch.autograd.grad(loss, theirs))) < TOLERANCE
    statistics = [supernet.cell.batch_norm.running_mean, supernet.cell.batch_norm.running_var]
    assert largest_difference(statistics, [oracle.running_mean, oracle.running_var]) < TOLERANCE


@pytest.mark.parametrize("purpose", [Pass.WEIGHT, Pass.ALPHA])
def test_second_derivatives_agree_with_the_oracle(purpose: Pass) -> None:
    """d/d(w, alpha) of <dL/d(w, alpha), v>, as the exact Hessian product asks, with dropout on and masks held."""
    space = tiny()
    supernet, alphas = supernet_of(space), alphas_of(space)
    oracle = RecurrentOracle(space, supernet, dict(alphas.cells.items()))
    batch, carry = tokens(), carry_of()
    ours = [*supernet.parameters(), *alphas.parameters()]
    theirs = [*oracle.weights.values(), *oracle.alphas.values()]
    generator = torch.Generator().manual_seed(4)
    directions = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in ours]

    def product(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        inner = torch.autograd.grad(loss, parameters, create_graph=True)
        total = torch.stack([(g * v).sum() for g, v in zip(inner, directions, strict=True)]).sum()
        return list(torch.autograd.grad(total, parameters))

    expected = product(oracle.loss(batch, carry, weight_step=purpose is Pass.WEIGHT)[0], theirs)
    assert (
        largest_difference(product(supernet.loss(batch, carry, purpose, alphas.mixing()).loss, ours), expected)
        < TOLERANCE
    )
    assert all(g.abs().max() > 1e-6 for g in expected)


def test_evaluation_agrees_with_the_oracle_and_moves_nothing() -> None:
    space = tiny()
    supernet, alphas = supernet_of(space), alphas_of(space)
    oracle = RecurrentOracle(space, supernet, dict(alphas.cells.items()))
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    outcome = supernet.evaluate(tokens(), carry_of(), alphas.mixing())
    loss, last = oracle.evaluate(tokens(), carry_of())
    assert abs(outcome.loss.item() - loss.item()) < TOLERANCE
    assert outcome.carry is not None
    assert largest_difference([outcome.carry], [last]) < TOLERANCE
    assert not outcome.loss.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_only_the_weight_step_moves_statistics_and_pays_for_changing_states() -> None:
    supernet, mixing = supernet_of(tiny()), alphas_of(tiny()).mixing()
    before = supernet.cell.batch_norm.running_mean.clone()
    alpha = supernet.loss(tokens(), carry_of(), Pass.ALPHA, mixing)
    assert torch.equal(supernet.cell.batch_norm.running_mean, before)
    weight = supernet.loss(tokens(), carry_of(), Pass.WEIGHT, mixing)
    assert not torch.equal(supernet.cell.batch_norm.running_mean, before)
    assert weight.loss > alpha.loss + 1e-3
    assert torch.equal(weight.sums, alpha.sums), "the metrics leave regularisers out"


def test_every_pass_of_a_step_sees_the_same_masks_and_the_next_step_others() -> None:
    supernet, mixing = supernet_of(tiny()), alphas_of(tiny()).mixing()
    first = supernet.loss(tokens(), carry_of(), Pass.ALPHA, mixing).loss
    again = supernet.loss(tokens(), carry_of(), Pass.ALPHA, mixing).loss
    supernet.begin_step()
    fresh = supernet.loss(tokens(), carry_of(), Pass.ALPHA, mixing).loss
    assert first == again == fresh
    other = replace(tokens(), draws=replace(tokens().draws, step=4))
    assert supernet.loss(other, carry_of(), Pass.ALPHA, mixing).loss != first


@pytest.mark.parametrize("dropout", ["output", "hidden", "cell_input", "embedded", "words"])
def test_each_dropout_acts_and_none_is_none(dropout: str) -> None:
    off = {f"dropout_{name}": 0.0 for name in ("output", "hidden", "cell_input", "embedded", "words")}
    plain, mixing = supernet_of(tiny(**off)), alphas_of(tiny()).mixing()
    assert (
        plain.loss(tokens(), carry_of(), Pass.ALPHA, mixing).loss
        == plain.loss(replace(tokens(), draws=replace(tokens().draws, step=9)), carry_of(), Pass.ALPHA, mixing).loss
    )
    dropped = supernet_of(tiny(**(off | {f"dropout_{dropout}": 0.5})))
    assert (
        dropped.loss(tokens(), carry_of(), Pass.ALPHA, mixing).loss
        != plain.loss(tokens(), carry_of(), Pass.ALPHA, mixing).loss
    )


def test_a_sequence_cut_in_two_carries_its_hidden_state_over() -> None:
    supernet, mixing = supernet_of(tiny()), alphas_of(tiny()).mixing()
    whole = supernet.evaluate(tokens(), None, mixing)
    batch = tokens()
    head = replace(batch, inputs=batch.inputs[:2], targets=batch.targets[:2])
    tail = replace(batch, inputs=batch.inputs[2:], targets=batch.targets[2:])
    first = supernet.evaluate(head, None, mixing)
    second = supernet.evaluate(tail, first.carry, mixing)
    assert largest_difference([first.sums + second.sums], [whole.sums]) < TOLERANCE
    assert whole.carry is not None
    assert second.carry is not None
    assert largest_difference([second.carry], [whole.carry]) < TOLERANCE


def test_a_single_word_has_no_change_of_state_to_pay_for() -> None:
    supernet, mixing = supernet_of(tiny()), alphas_of(tiny()).mixing()
    assert torch.isfinite(supernet.loss(tokens(steps=1), carry_of(), Pass.WEIGHT, mixing).loss)


def test_a_shard_without_a_column_evaluates_to_nothing() -> None:
    supernet, mixing = supernet_of(tiny()), alphas_of(tiny()).mixing()
    batch = tokens()
    empty = replace(batch, inputs=batch.inputs[:, :0], targets=batch.targets[:, :0])
    assert supernet.evaluate(empty, None, mixing).sums.tolist() == [0.0, 0.0]


def test_metrics_are_nats_per_token_and_perplexity() -> None:
    metrics = supernet_of(tiny()).summarise([6.0, 3.0], "validation")
    assert metrics == {"validation_loss": 2.0, "validation_perplexity": pytest.approx(math.exp(2.0))}
    assert math.isfinite(supernet_of(tiny()).summarise([1e6, 1.0], "train")["train_perplexity"])


def test_the_search_network_of_ptb_has_the_size_of_the_paper() -> None:
    with torch.device("meta"):
        supernet = RecurrentSupernet(RecurrentSpace(), DataFacts(10_000))
    assert sum(p.numel() for p in supernet.parameters()) == 4_810_000
    assert supernet.layout.cell("recurrent").shape == (36, 5)
