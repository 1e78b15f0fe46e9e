"""The language model of a genotype (arXiv:1806.09055, section 3.2), to be trained from scratch. Knows no alphas.

No batch norm here; each node has a weight matrix of its own and one source. Suffixes: T time steps, N columns of text,
E embedding and H hidden units, 2H a gate beside a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ray_darts.data.batch import Batch
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.derived import DerivedNetwork, LossSettings
from ray_darts.spaces.recomputing import RecomputableCell, recomputed
from ray_darts.spaces.recurrent.language_model import (
    NO_MASKS,
    Dropouts,
    LanguageModel,
    Masks,
    masked,
    summarise_tokens,
    temporal_activation,
    token_outcome,
)
from ray_darts.spaces.recurrent.operations import highway
from ray_darts.spaces.recurrent.space import NetworkOptions
from ray_darts.spaces.supernet import LossOutput


class RecurrentCell(RecomputableCell):
    """One recurrent cell: state 0 is the gated input, the output is the mean of the genotype's output states."""

    def __init__(self, cell: CellGenotype, size: int, weight_range: float) -> None:
        super().__init__()
        self._nodes: tuple[Connection, ...] = tuple(connections[0] for connections in cell.nodes)
        self._outputs = cell.outputs
        self.input_weight = nn.Parameter(torch.empty(2 * size, 2 * size).uniform_(-weight_range, weight_range))
        self.node_weights = nn.Parameter(
            torch.empty(len(cell.nodes), size, 2 * size).uniform_(-weight_range, weight_range)
        )

    def forward(self, inputs_TNE: Tensor, carry_NH: Tensor, hidden_mask_NH: Tensor | None) -> Tensor:
        """Return the hidden states [T, N, H] after each time step."""
        width = inputs_TNE.shape[-1]
        recurrent = self.input_weight[width:]
        projected = torch.matmul(inputs_TNE, self.input_weight[:width])
        nodes = list(zip(self._nodes, self.node_weights.unbind(), strict=True))
        state = carry_NH
        hidden_states = []
        for gated in projected.unbind():
            gated = torch.addmm(gated, masked(state, hidden_mask_NH), recurrent)
            states = [highway(state, gated, "tanh")]
            for connection, weight in nodes:
                source = states[connection.source]
                gated = torch.mm(masked(source, hidden_mask_NH), weight)
                states.append(highway(source, gated, connection.operation))
            state = torch.stack([states[index] for index in self._outputs]).mean(0)
            hidden_states.append(state)
        return torch.stack(hidden_states)


class RecurrentNetwork(DerivedNetwork):
    """A language model with the cell of `genotype`; embedding and hidden size are equal for the tied decoder.

    `facts.num_classes` is the size of the vocabulary. `train()` and `eval()` switch the dropouts, as in any PyTorch
    module.
    """

    def __init__(self, genotype: Genotype, facts: DataFacts, options: NetworkOptions) -> None:
        super().__init__()
        num_words, size = facts.num_classes, options.size
        self.language_model = LanguageModel(num_words, size, options.weight_range)
        self.cell = RecurrentCell(genotype.cell("recurrent"), size, options.weight_range)
        self._dropouts = Dropouts.of(options)
        self._sizes = (num_words, size, size)
        self._regularisation = options.temporal_activation_regularisation

    def initial_carry(self, num_samples: int, device: torch.device) -> Tensor:
        """Zeros [N, H]."""
        return torch.zeros(num_samples, self._sizes[-1], dtype=self.language_model.embedding.dtype, device=device)

    sum_names = ("loss_sum", "tokens")

    def training_loss(self, batch: Batch, carry: Tensor | None, settings: LossSettings) -> LossOutput:
        """As `loss`; none of the settings has a meaning for text."""
        assert carry is not None
        return self.loss(batch, carry)

    def evaluate(self, batch: Batch, carry: Tensor | None) -> LossOutput:
        """As `loss`."""
        assert carry is not None
        return self.loss(batch, carry)

    def _states(self, inputs_TNE: Tensor, state_NH: Tensor, hidden_mask_NH: Tensor | None) -> Tensor:
        """The hidden states [T, N, H]; where they are computed again, one is kept for each segment of √T time steps."""
        if not (self.recomputes_cells and self.training):
            return self.cell(inputs_TNE, state_NH, hidden_mask_NH)  # type: ignore[no-any-return]
        found = []
        for segment in torch.split(inputs_TNE, math.ceil(math.sqrt(len(inputs_TNE)))):
            found.append(recomputed(self.cell, segment, state_NH, hidden_mask_NH))
            state_NH = found[-1][-1]
        return torch.cat(found)

    def predict(self, inputs: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Scores [N, V] of the next words (softmax makes them probabilities) and the hidden state [N, H]."""
        assert carry is not None
        model = self.language_model
        state = self.cell(model.embed(inputs.unsqueeze(0), NO_MASKS), carry, None)[0]
        return torch.addmm(model.decoder_bias.unsqueeze(0), state, model.embedding.t()), state

    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        """`<prefix>_loss` in nats per token and `<prefix>_perplexity`."""
        return summarise_tokens(totals, prefix)

    def loss(self, batch: Batch, carry_NH: Tensor) -> LossOutput:
        """Cross entropy per token; in train mode with dropout and temporal activation regularisation.

        0 for a shard without columns, as a text of few columns has on many ranks.
        """
        model = self.language_model
        masks = NO_MASKS
        if self.training:
            masks = Masks.draw(self._dropouts, batch.draws, batch.num_samples, self._sizes, model.embedding)
        states = self._states(model.embed(batch.inputs, masks), carry_NH, masks.hidden_NH)
        loss_sum = model.total_loss(states, batch.targets, masks)
        loss = loss_sum / max(batch.targets.numel(), 1)
        if self.training:
            loss = loss + self._regularisation * temporal_activation(states)
        return token_outcome(batch, states, loss, loss_sum)
