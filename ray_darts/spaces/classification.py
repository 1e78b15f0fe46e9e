"""The loss, its sums and the class scores that all supernets and networks for image classification share.

Knows no space. Suffixes: N samples, C channels, H W pixels.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ray_darts.data.batch import Batch
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Pass, Supernet


@dataclass(frozen=True)
class Scores:
    """Class scores [N, classes]; `auxiliary` only in training with an auxiliary head."""

    final: Tensor
    auxiliary: Tensor | None


class ClassifyingSupernet(Supernet, abc.ABC):
    """A supernet that scores classes; trained with cross entropy, evaluated with running statistics."""

    sum_names = ("loss_sum", "correct", "samples")

    @abc.abstractmethod
    def logits(self, images_NCHW: Tensor, mixing: MixingWeights, *, batch_statistics: bool, update: bool) -> Tensor:
        """Class scores [N, classes]; the flags are those of `batch_norm.normalise`."""

    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        """Cross entropy with the batch's statistics."""
        return self._output(batch, mixing, batch_statistics=True, update=purpose is Pass.WEIGHT)

    @torch.no_grad()
    def evaluate(self, batch: Batch, carry: Tensor | None, mixing: MixingWeights) -> LossOutput:
        """Cross entropy with running statistics."""
        return self._output(batch, mixing, batch_statistics=False, update=False)

    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        """`<prefix>_loss` (nats per image) and `<prefix>_accuracy` (0 to 1)."""
        loss_sum, correct, samples = totals
        return {f"{prefix}_loss": loss_sum / samples, f"{prefix}_accuracy": correct / samples}

    def _output(self, batch: Batch, mixing: MixingWeights, *, batch_statistics: bool, update: bool) -> LossOutput:
        scores = self.logits(batch.inputs, mixing, batch_statistics=batch_statistics, update=update)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        loss_sum = F.cross_entropy(scores, batch.targets, reduction="sum")
        count = batch.num_samples
        correct = (scores.detach().argmax(dim=1) == batch.targets).sum().to(scores.dtype)
        total = loss_sum.detach()
        return LossOutput(loss_sum / max(count, 1), None, torch.stack([total, correct, torch.full_like(total, count)]))
