"""The recurrent supernet (arXiv:1806.09055, section 3.2): a cell that mixes all activations, inside a language model.

Suffixes: T time steps, N columns of text, E embedding and H hidden units, J sources, K operations, 2H a gate beside a
candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.batch_norm import BatchNorm
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.recurrent.language_model import (
    NO_MASKS,
    Dropouts,
    LanguageModel,
    Masks,
    summarise_tokens,
    temporal_activation,
    token_outcome,
)
from ray_darts.spaces.recurrent.space import RecurrentSpace
from ray_darts.spaces.recurrent.steps import Cell
from ray_darts.spaces.recurrent.unrolled import unroll
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Pass, Supernet


class SearchCell(nn.Module):
    """All candidates of all edges at once; one weight matrix per node, shared by its sources.

    A batch norm without affine is applied to s0 and to every node, with the statistics of that time step's N columns;
    in the weight step each time step updates the running statistics. A departure from the paper's code: s0 and each
    node have their own running statistics. That code has one set for all, so in evaluation it normalises each state
    mostly by the statistics of others. Without affine, training is the same function either way.
    """

    def __init__(self, space: RecurrentSpace, *, recompute: bool, kernel: Kernel | None) -> None:
        super().__init__()
        self.operations, self._recompute, self._kernel = space.operations, recompute, kernel
        hidden, bound = space.hidden, space.weight_range
        self.input_weight = nn.Parameter(torch.empty(space.embedding + hidden, 2 * hidden).uniform_(-bound, bound))
        self.node_weights = nn.Parameter(torch.empty(space.nodes, hidden, 2 * hidden).uniform_(-bound, bound))
        self.batch_norm = BatchNorm((1 + space.nodes) * hidden, momentum=space.batch_norm_momentum)

    def forward(
        self,
        inputs_TNE: Tensor,
        carry_NH: Tensor,
        probabilities: Tensor,
        hidden_mask_NH: Tensor | None,
        *,
        update: bool,
    ) -> Tensor:
        """Return the hidden states [T, N, H] after each time step; `probabilities` [edges, K] mix the operations."""
        width, hidden = inputs_TNE.shape[-1], carry_NH.shape[-1]
        projected = torch.matmul(inputs_TNE, self.input_weight[:width])
        starts = range(0, self.batch_norm.num_features, hidden)
        norms = tuple(self.batch_norm.norm(start, start + hidden) for start in starts)
        cell = Cell(self.operations, norms, update, self._recompute, self._kernel)
        return unroll(
            projected, carry_NH, self.input_weight[width:], self.node_weights, probabilities, hidden_mask_NH, cell
        )


class RecurrentSupernet(Supernet):
    """A language model whose cell mixes every operation on every edge.

    The carry is the hidden state [N, H]. Regularisers: temporal activation regularisation in the weight step alone.
    The decoder's weight is the embedding, so it changes with w'. Evaluation uses no dropout and, a departure from the
    paper's code, the statistics of its own columns: with fixed statistics, unbounded activations can grow over a
    thousand words, and a search that trains well would evaluate to infinity.

    `checkpoint_cells`: keep only every √T-th hidden state; the backward pass computes the time steps between again.
    `kernel`: computes the mixture of a node's candidates in one call, on CPUs.
    """

    sum_names = ("loss_sum", "tokens")

    def __init__(
        self,
        space: RecurrentSpace,
        facts: DataFacts,
        *,
        checkpoint_cells: bool = False,
        kernel: Kernel | None = None,
    ) -> None:
        super().__init__()
        self.layout = space.layout()
        self.language_model = LanguageModel(facts.num_classes, space.embedding, space.weight_range)
        self.cell = SearchCell(space, recompute=checkpoint_cells, kernel=kernel)
        self._dropouts = Dropouts.of(space)
        self._sizes = (facts.num_classes, space.embedding, space.hidden)
        self._regularisation = space.temporal_activation_regularisation
        self._masks: dict[Draws, Masks] = {}

    def initial_carry(self, num_samples: int, device: torch.device) -> Tensor:
        """Zeros [N, H]: the hidden state before an epoch's first word."""
        return torch.zeros(num_samples, self._sizes[-1], dtype=self.language_model.embedding.dtype, device=device)

    def begin_step(self) -> None:
        """Clear the masks of the previous step's batches."""
        self._masks.clear()

    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        """Cross entropy per token; all passes over one batch use the same dropout masks, a disturbance none."""
        masks = NO_MASKS if purpose is Pass.DISTURBANCE else self._masks_of(batch)
        update = purpose is Pass.WEIGHT
        states, loss_sum = self._unroll(batch, carry, masks, mixing, update=update)
        loss = loss_sum / batch.targets.numel()
        if purpose is Pass.WEIGHT:
            loss = loss + self._regularisation * temporal_activation(states)
        return token_outcome(batch, states, loss, loss_sum)

    @torch.no_grad()
    def evaluate(self, batch: Batch, carry: Tensor | None, mixing: MixingWeights) -> LossOutput:
        """Cross entropy per token without dropout, with the statistics of these columns."""
        states, loss_sum = self._unroll(batch, carry, NO_MASKS, mixing, update=False)
        return token_outcome(batch, states, loss_sum / max(batch.targets.numel(), 1), loss_sum)

    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        """`<prefix>_loss` (nats per token) and `<prefix>_perplexity`."""
        return summarise_tokens(totals, prefix)

    def _unroll(
        self,
        batch: Batch,
        carry: Tensor | None,
        masks: Masks,
        mixing: MixingWeights,
        *,
        update: bool,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states [T, N, H] and the sum of the cross entropy over all tokens."""
        if carry is None:
            carry = self.initial_carry(batch.num_samples, batch.inputs.device)
        probabilities = mixing["recurrent"]
        embedded = self.language_model.embed(batch.inputs, masks)
        states = self.cell(embedded, carry, probabilities, masks.hidden_NH, update=update)
        return states, self.language_model.total_loss(states, batch.targets, masks)

    def _masks_of(self, batch: Batch) -> Masks:
        if batch.draws not in self._masks:
            like = self.language_model.embedding
            self._masks[batch.draws] = Masks.draw(self._dropouts, batch.draws, batch.num_samples, self._sizes, like)
        return self._masks[batch.draws]
