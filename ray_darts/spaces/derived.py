"""The interface of every space's derived network, as a training uses it. Knows no optimisers and no ranks."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ray_darts.data.batch import Batch
from ray_darts.errors import ConfigError
from ray_darts.spaces.supernet import LossOutput


@dataclass(frozen=True)
class LossSettings:
    """The regularisers of one training step; a network uses those that it knows.

    `drop_path`: probability of this step. `class_weights`: [classes], with mean 1 over the training samples, or None.
    """

    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.0
    drop_path: float = 0.0
    class_weights: Tensor | None = None


class DerivedNetwork(nn.Module, abc.ABC):
    """The network of a genotype. `train()` and `eval()` switch dropouts, drop-path and batch-norm statistics.

    All parameters are weights; a training makes them, and the buffers named running_mean and running_var, views of one
    vector each. So a network must not replace them after construction. `sum_names`: names of `LossOutput.sums`; the
    last is the number of samples (or tokens). `recomputes_cells`: in train mode the backward pass is to compute cells,
    or time steps, again; only for networks whose settings have `checkpoint_cells` among their `runtime_fields`.
    """

    sum_names: tuple[str, ...]
    recomputes_cells = False

    def initial_carry(self, num_samples: int, device: torch.device) -> Tensor | None:
        """The hidden state before an epoch's first batch, [num_samples, …], or None."""
        return None

    @abc.abstractmethod
    def training_loss(self, batch: Batch, carry: Tensor | None, settings: LossSettings) -> LossOutput:
        """The mean loss over this shard with the regularisers; `sums` are without them. Called in train mode."""

    @abc.abstractmethod
    def evaluate(self, batch: Batch, carry: Tensor | None) -> LossOutput:
        """The plain loss. Called in eval mode, under no_grad."""

    def predict(self, inputs: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(scores [N, classes], new carry), as `evaluate` computes them; of text for the tokens [N] of one time step.

        Called in eval mode, under no_grad, to be traced by torch.export: PyTorch's own operations only, and nothing
        that depends on N. Raises: ConfigError where the network cannot be exported.
        """
        raise ConfigError(f"{type(self).__name__} cannot be exported: it has no method `predict`")

    @abc.abstractmethod
    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        """Metrics from `sums` totalled over shards and batches, named `<prefix>_loss` and so on."""

    @property
    def main_parameters(self) -> int:
        """Number of weights without those that only training uses."""
        return sum(parameter.numel() for parameter in self.parameters())
