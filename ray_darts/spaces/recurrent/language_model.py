"""The language model around a recurrent cell: tied embedding and decoder, dropouts, the loss. Knows no cell.

Suffixes: T time steps, N columns of text, V words, E embedding and H hidden units. Dropout masks are Bernoulli(keep) /
keep, drawn once per sequence, so a unit is on or off for all of its time steps (arXiv:1708.02182).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ray_darts.data.batch import Batch, Draws
from ray_darts.spaces.recurrent.decoder import decoder_loss
from ray_darts.spaces.supernet import LossOutput

if TYPE_CHECKING:
    from ray_darts.spaces.recurrent.space import NetworkOptions, RecurrentSpace


@dataclass(frozen=True)
class Dropouts:
    """Probabilities of dropping: rows of the embedding, embedded words, the cell's input, states within the cell,
    the cell's output."""

    words: float = 0.0
    embedded: float = 0.0
    cell_input: float = 0.0
    hidden: float = 0.0
    output: float = 0.0

    @classmethod
    def of(cls, settings: RecurrentSpace | NetworkOptions) -> Dropouts:
        """The dropouts of a search or of a derived network."""
        return cls(
            words=settings.dropout_words,
            embedded=settings.dropout_embedded,
            cell_input=settings.dropout_cell_input,
            hidden=settings.dropout_hidden,
            output=settings.dropout_output,
        )


@dataclass(frozen=True)
class Masks:
    """One sequence's masks; None keeps all. `input_NE` is that of embedded words times that of the cell's input."""

    words_V: Tensor | None = None
    input_NE: Tensor | None = None
    hidden_NH: Tensor | None = None
    output_NH: Tensor | None = None

    @classmethod
    def draw(
        cls, dropouts: Dropouts, draws: Draws, num_columns: int, sizes: tuple[int, int, int], like: Tensor
    ) -> Masks:
        """Draw this shard's masks for `sizes` = (V, E, H); the same call gives the same masks."""
        num_words, embedding, hidden = sizes

        def mask(name: str, probability: float, width: int, columns: int | None) -> Tensor | None:
            if probability == 0:
                return None
            if columns is None:
                return draws.keep_mask(name, (width,), 1 - probability, batch_dim=None, like=like)
            return draws.keep_mask(name, (columns, width), 1 - probability, batch_dim=0, like=like)

        embedded = mask("dropout_embedded", dropouts.embedded, embedding, num_columns)
        cell_input = mask("dropout_cell_input", dropouts.cell_input, embedding, num_columns)
        both = [part for part in (embedded, cell_input) if part is not None]
        return cls(
            words_V=mask("dropout_words", dropouts.words, num_words, None),
            input_NE=math.prod(both[1:], start=both[0]) if both else None,
            hidden_NH=mask("dropout_hidden", dropouts.hidden, hidden, num_columns),
            output_NH=mask("dropout_output", dropouts.output, hidden, num_columns),
        )


NO_MASKS = Masks()


def masked(values: Tensor, mask: Tensor | None) -> Tensor:
    """`values` times `mask`, where there is one."""
    return values if mask is None else values * mask


class LanguageModel(nn.Module):
    """Embedding [V, E] that is also the decoder's weight, and the decoder's bias [V]."""

    def __init__(self, num_words: int, embedding: int, weight_range: float) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(num_words, embedding).uniform_(-weight_range, weight_range))
        self.decoder_bias = nn.Parameter(torch.zeros(num_words))

    def embed(self, tokens_TN: Tensor, masks: Masks) -> Tensor:
        """Embedded words [T, N, E] with word, embedding and cell-input dropout.

        A dropped word is dropped at every position of the sequence. Masking the rows after the look-up equals masking
        the embedding before it, without a copy of the embedding.
        """
        embedded = nn.functional.embedding(tokens_TN, self.embedding)
        if masks.words_V is not None:
            embedded = embedded * masks.words_V[tokens_TN].unsqueeze(-1)
        return masked(embedded, masks.input_NE)

    def total_loss(self, states_TNH: Tensor, targets_TN: Tensor, masks: Masks) -> Tensor:
        """Sum over all tokens of the cross entropy in nats: one decoder product for the whole sequence."""
        rows = masked(states_TNH, masks.output_NH).flatten(0, 1)
        return decoder_loss(rows, self.embedding, self.decoder_bias, targets_TN.flatten())


def temporal_activation(states_TNH: Tensor) -> Tensor:
    """Mean square change of the state from one time step to the next (arXiv:1708.02182, section 4.5, on h itself)."""
    if states_TNH.shape[0] < 2 or states_TNH.shape[1] == 0:
        return states_TNH.new_zeros(())
    return (states_TNH[1:] - states_TNH[:-1]).square().mean()


def token_outcome(batch: Batch, states_TNH: Tensor, loss: Tensor, loss_sum: Tensor) -> LossOutput:
    """The LossOutput of a sequence: the last hidden state is the carry, the sums are (loss_sum, tokens)."""
    total = loss_sum.detach()
    return LossOutput(
        loss, states_TNH[-1].detach(), torch.stack([total, torch.full_like(total, batch.targets.numel())])
    )


_LARGEST_EXPONENT = 709.0
"""exp of a larger number overflows float64."""


def summarise_tokens(totals: Sequence[float], prefix: str) -> dict[str, float]:
    """`<prefix>_loss` in nats per token and `<prefix>_perplexity` from (loss_sum, tokens)."""
    loss_sum, tokens = totals
    loss = loss_sum / tokens
    return {f"{prefix}_loss": loss, f"{prefix}_perplexity": math.exp(min(loss, _LARGEST_EXPONENT))}
