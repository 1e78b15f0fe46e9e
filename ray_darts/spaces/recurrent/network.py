"""The language model of a genotype (arXiv:1806.09055, section 3.2), to be trained from scratch. Knows no alphas.

No batch norm here; each node has a weight matrix of its own and one source. Suffixes: T time steps, N columns of text,
E embedding and H hidden units, 2H a gate beside a candidate.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from ray_darts.data.batch import Batch
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.settings import Settings
from ray_darts.spaces.recurrent.language_model import (
    NO_MASKS,
    Dropouts,
    LanguageModel,
    Masks,
    masked,
    temporal_activation,
    token_outcome,
)
from ray_darts.spaces.recurrent.operations import highway
from ray_darts.spaces.supernet import LossOutput

PAPER_DROPOUTS = Dropouts(words=0.1, embedded=0.2, cell_input=0.75, hidden=0.25, output=0.75)
"""Of the paper's evaluation on PTB; on WikiText-2 `hidden` is 0.15."""


class RecurrentCell(nn.Module):
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


class NetworkOptions(Settings):
    """The sizes of a derived language model; the defaults are those of the paper's evaluation on Penn Treebank."""

    size: int = Field(850, ge=1, description="of the embedding and of the hidden state")
    dropout_words: float = Field(PAPER_DROPOUTS.words, ge=0, lt=1)
    dropout_embedded: float = Field(PAPER_DROPOUTS.embedded, ge=0, lt=1)
    dropout_cell_input: float = Field(PAPER_DROPOUTS.cell_input, ge=0, lt=1)
    dropout_hidden: float = Field(PAPER_DROPOUTS.hidden, ge=0, lt=1)
    dropout_output: float = Field(PAPER_DROPOUTS.output, ge=0, lt=1)
    temporal_activation_regularisation: float = Field(1e-3, ge=0)
    weight_range: float = Field(0.04, gt=0, description="weights start uniform in +- this")


class RecurrentNetwork(nn.Module):
    """A language model with the cell of `genotype`; embedding and hidden size are equal (`size`) for the tied decoder.

    `train()` and `eval()` switch the dropouts, as in any PyTorch module.
    """

    def __init__(
        self,
        genotype: Genotype,
        num_words: int,
        size: int,
        *,
        dropouts: Dropouts = PAPER_DROPOUTS,
        temporal_activation_regularisation: float = 1e-3,
        weight_range: float = 0.04,
    ) -> None:
        super().__init__()
        self.language_model = LanguageModel(num_words, size, weight_range)
        self.cell = RecurrentCell(genotype.cell("recurrent"), size, weight_range)
        self._dropouts = dropouts
        self._sizes = (num_words, size, size)
        self._regularisation = temporal_activation_regularisation

    @classmethod
    def of(cls, genotype: Genotype, facts: DataFacts, options: NetworkOptions) -> RecurrentNetwork:
        """Build the language model with `options`; `facts.num_classes` is the size of the vocabulary."""
        dropouts = Dropouts(
            words=options.dropout_words,
            embedded=options.dropout_embedded,
            cell_input=options.dropout_cell_input,
            hidden=options.dropout_hidden,
            output=options.dropout_output,
        )
        return cls(
            genotype,
            facts.num_classes,
            options.size,
            dropouts=dropouts,
            temporal_activation_regularisation=options.temporal_activation_regularisation,
            weight_range=options.weight_range,
        )

    def initial_carry(self, num_samples: int, device: torch.device) -> Tensor:
        """Zeros [N, H]."""
        return torch.zeros(num_samples, self._sizes[-1], dtype=self.language_model.embedding.dtype, device=device)

    def loss(self, batch: Batch, carry_NH: Tensor) -> LossOutput:
        """Cross entropy per token; in train mode with dropout and temporal activation regularisation."""
        model = self.language_model
        masks = NO_MASKS
        if self.training:
            masks = Masks.draw(self._dropouts, batch.draws, batch.num_samples, self._sizes, model.embedding)
        states = self.cell(model.embed(batch.inputs, masks), carry_NH, masks.hidden_NH)
        loss_sum = model.total_loss(states, batch.targets, masks)
        loss = loss_sum / batch.targets.numel()
        if self.training:
            loss = loss + self._regularisation * temporal_activation(states)
        return token_outcome(batch, states, loss, loss_sum)
