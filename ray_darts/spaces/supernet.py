"""What every space offers the search: a supernet with a loss. Knows no architecture parameters, optimisers or ranks."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from ray_darts.data.batch import Batch
from ray_darts.genotype.layout import SpaceLayout
from ray_darts.protocols.space import Ranking

MixingWeights = Mapping[str, Tensor]
"""{cell: [edges, operations]}, what a method makes of its architecture parameters for one pass."""


class Pass(Enum):
    """What a forward pass is for. Both use batch statistics (train mode)."""

    WEIGHT = "weight"
    """The weight step: updates running statistics, adds regularisers that only the weight step has."""
    ALPHA = "alpha"
    """Any pass of the alpha step: running statistics stay as they are."""


@dataclass(frozen=True)
class LossOutput:
    """`loss`: scalar, the mean over this shard, regularisers included; `carry`: hidden state, detached, or None;
    `sums`: float [len(sum_names)], detached totals over this shard's samples that add up over shards."""

    loss: Tensor
    carry: Tensor | None
    sums: Tensor


class Supernet(nn.Module, abc.ABC):
    """A network that mixes all candidate operations by weights that it is given with each pass.

    All of its parameters are weights. The loop keeps weights and running statistics (buffers named running_mean,
    running_var) in one flat vector each and makes parameters and buffers views of them, so a supernet never replaces
    them after construction and never keeps references to values derived from them across passes.
    """

    layout: SpaceLayout
    ranking: Ranking
    sum_names: tuple[str, ...]
    """Names of `LossOutput.sums`; the last is the number of samples (or tokens)."""

    def initial_carry(self, num_samples: int, device: torch.device) -> Tensor | None:
        """The hidden state before an epoch's first batch: [.., num_samples, ..] zeros with batch_dim 0, or None."""
        return None

    @abc.abstractmethod
    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        """The mean loss over this shard of the batch, differentiable in weights and mixing weights."""

    @abc.abstractmethod
    def evaluate(self, batch: Batch, carry: Tensor | None, mixing: MixingWeights) -> LossOutput:
        """The loss without dropout, under no_grad; the space says by which batch-norm statistics."""

    @abc.abstractmethod
    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        """Metrics from `sums` added over shards and batches, named `<prefix>_loss` and so on."""

    def begin_step(self) -> None:
        """Forget anything cached for the previous step's batch. Called before each bilevel step."""
