"""Derived language models: the sizes of the paper's, and the published cell written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.genotypes import published
from ray_darts.spaces.recurrent.network import RecurrentNetwork
from ray_darts.spaces.recurrent.space import NetworkOptions
from tests.spaces.test_recurrent_supernet import NUM_WORDS, tokens

DARTS_V2 = (
    ("sigmoid", 0),
    ("relu", 1),
    ("relu", 1),
    ("identity", 1),
    ("tanh", 2),
    ("sigmoid", 5),
    ("tanh", 3),
    ("relu", 5),
)


def network() -> RecurrentNetwork:
    model = RecurrentNetwork(published("DARTS_V2", "recurrent"), DataFacts(NUM_WORDS), NetworkOptions(size=6)).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    return model


@pytest.mark.parametrize(
    ("num_words", "size", "weights"), [(10_000, 850, 22_960_000), (33_278, 700, 33_127_878)], ids=["ptb", "wikitext-2"]
)
@pytest.mark.parametrize("name", ["DARTS_V1", "DARTS_V2"])
def test_derived_networks_have_the_sizes_of_the_paper(name: str, num_words: int, size: int, weights: int) -> None:
    with torch.device("meta"):
        model = RecurrentNetwork(published(name, "recurrent"), DataFacts(num_words), NetworkOptions(size=size))
    assert sum(parameter.numel() for parameter in model.parameters()) == weights


@pytest.mark.parametrize("training", [True, False])
def test_the_published_cell_is_what_the_paper_draws(training: bool) -> None:
    model, batch = network(), tokens()
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    embedding, bias = weights["language_model.embedding"], weights["language_model.decoder_bias"]

    def mask(name: str, keep: float, *shape: int) -> Tensor:
        if not training:
            return torch.ones(shape, dtype=torch.float64)
        batch_dim = 0 if len(shape) == 2 else None
        return batch.draws.keep_mask(f"dropout_{name}", shape, keep, batch_dim=batch_dim, like=embedding)

    rows = embedding * mask("words", 0.9, NUM_WORDS).unsqueeze(1)
    on_input = mask("embedded", 0.8, 4, 6) * mask("cell_input", 0.25, 4, 6)
    on_hidden, on_output = mask("hidden", 0.75, 4, 6), mask("output", 0.25, 4, 6)
    hidden = first = torch.full((4, 6), 0.3, dtype=torch.float64)
    outputs = []
    for words in batch.inputs:
        both = torch.cat([rows[words] * on_input, hidden * on_hidden], dim=1) @ weights["cell.input_weight"]
        states = [hidden + torch.sigmoid(both[:, :6]) * (torch.tanh(both[:, 6:]) - hidden)]
        for node, (name, source) in enumerate(DARTS_V2):
            state = states[source]
            both = (state * on_hidden) @ weights["cell.node_weights"][node]
            function = getattr(torch, name) if name != "identity" else (lambda values: values)
            states.append(state + torch.sigmoid(both[:, :6]) * (function(both[:, 6:]) - state))
        hidden = torch.stack(states[1:]).mean(0)
        outputs.append(hidden)
    stacked = torch.stack(outputs)
    expected = torch.nn.functional.cross_entropy(
        ((stacked * on_output) @ embedding.t() + bias).flatten(0, 1), batch.targets.flatten()
    )
    if training:
        expected = expected + 1e-3 * (stacked[1:] - stacked[:-1]).square().mean()

    outcome = model.train(training).loss(batch, first)
    torch.testing.assert_close(outcome.loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(outcome.carry, hidden, rtol=0, atol=1e-12)


def test_a_derived_network_has_no_batch_norm_and_starts_within_the_weight_range() -> None:
    model = RecurrentNetwork(published("DARTS_V1", "recurrent"), DataFacts(NUM_WORDS), NetworkOptions(size=6))
    assert not list(model.buffers())
    assert all(parameter.abs().max() <= 0.04 for parameter in model.parameters())
    assert model.language_model.decoder_bias.abs().max() == 0
    assert model.initial_carry(3, torch.device("cpu")).shape == (3, 6)
