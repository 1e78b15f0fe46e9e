"""The interface of every space's supernet. Knows no architecture parameters, optimisers or ranks."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from ray_darts.data.batch import Batch
from ray_darts.genotype.layout import SpaceLayout

MixingWeights = Mapping[str, Tensor]
"""{cell: [edges, operations]}, computed by a method from its architecture parameters for one pass, and the entries of
the `SupernetOptions` with which the supernet was built."""


class Pass(Enum):
    """The purpose of a forward pass."""

    WEIGHT = "weight"
    """The weight step: batch statistics, updates running ones, adds the regularisers of the weight step."""
    ALPHA = "alpha"
    """Any pass of the alpha step: batch statistics, updates nothing."""
    DISTURBANCE = "disturbance"
    """Differentiable in the mixing weights alone, with the statistics and the dropout of the evaluation."""


@dataclass(frozen=True)
class LossOutput:
    """`loss`: scalar, the mean over this shard, regularisers included; `carry`: hidden state, detached, or None;
    `sums`: float [len(sum_names)], detached totals over this shard's samples that add up over shards."""

    loss: Tensor
    carry: Tensor | None
    sums: Tensor


class Supernet(nn.Module, abc.ABC):
    """A network that mixes all candidate operations by the mixing weights given with each pass.

    All of its parameters are weights. The loop keeps weights and running statistics (buffers named running_mean,
    running_var) in one flat vector each and makes parameters and buffers views of them. So a supernet must not replace
    them after construction, and must not keep values derived from them across passes.
    """

    layout: SpaceLayout
    """A stage of a search sets it to one whose edges have fewer operations; the weights of the others are 0 then."""
    sum_names: tuple[str, ...]
    """Names of `LossOutput.sums`; the last is the number of samples (or tokens)."""

    @property
    def layers_of_cells(self) -> Mapping[str, int]:
        """{cell: how many of its kind there are}, of a supernet with the option `layer_mixing`."""
        raise NotImplementedError(f"{type(self).__name__} has no mixing weights of its own for each cell")

    def initial_carry(self, num_samples: int, device: torch.device) -> Tensor | None:
        """The hidden state before an epoch's first batch: [.., num_samples, ..] zeros with batch_dim 0, or None."""
        return None

    @abc.abstractmethod
    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        """The mean loss over this shard of the batch, differentiable in weights and mixing weights."""

    @abc.abstractmethod
    def evaluate(self, batch: Batch, carry: Tensor | None, mixing: MixingWeights) -> LossOutput:
        """The loss without dropout, under no_grad; the space chooses the batch-norm statistics."""

    def evaluate_by_batch(self, batch: Batch, carry: Tensor | None, mixing: MixingWeights) -> LossOutput:
        """As `evaluate`, with the statistics of the batch, which hold for any mixing weights; a shard needs samples.

        Running statistics are those of the mixture that was trained.
        """
        return self.evaluate(batch, carry, mixing)

    @abc.abstractmethod
    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        """Metrics from `sums` totalled over shards and batches, named `<prefix>_loss` and so on."""

    def begin_step(self) -> None:
        """Clear what is cached for the previous step's batch. Called before each bilevel step."""
