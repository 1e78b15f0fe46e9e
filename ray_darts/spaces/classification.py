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

from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.method import SKIP_DROPOUT
from ray_darts.spaces import tangents
from ray_darts.spaces.derived import DerivedNetwork, LossSettings
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Pass, Supernet

SUM_NAMES = ("loss_sum", "correct", "samples")
_NO_DRAWS = Draws(0, "", 0, 0, 0, 0)
"""In eval mode a network draws no random numbers."""


@dataclass(frozen=True)
class Scores:
    """Class scores [N, classes]; `auxiliary` only in training with an auxiliary head."""

    final: Tensor
    auxiliary: Tensor | None


class ClassifyingSupernet(Supernet, abc.ABC):
    """A supernet that scores classes; trained with cross entropy, evaluated with running statistics."""

    sum_names = SUM_NAMES
    draws: Draws | None = None
    """The random numbers of the batch that `logits` scores."""

    @abc.abstractmethod
    def logits(self, images_NCHW: Tensor, mixing: MixingWeights, *, batch_statistics: bool, update: bool) -> Tensor:
        """Class scores [N, classes]; the flags are those of `batch_norm.normalise`."""

    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        """Cross entropy with the statistics that the purpose says and the weights of the batch; the sums have none."""
        by_batch = purpose is not Pass.DISTURBANCE
        mixing = mixing if by_batch else _without_dropout(mixing)
        return self._output(batch, mixing, batch_statistics=by_batch, update=purpose is Pass.WEIGHT)

    @torch.no_grad()
    def evaluate(self, batch: Batch, carry: Tensor | None, mixing: MixingWeights) -> LossOutput:
        """Cross entropy with running statistics."""
        return self._output(batch, _without_dropout(mixing), batch_statistics=False, update=False)

    @torch.no_grad()
    def evaluate_by_batch(self, batch: Batch, carry: Tensor | None, mixing: MixingWeights) -> LossOutput:
        """Cross entropy with the batch's statistics."""
        return self._output(batch, _without_dropout(mixing), batch_statistics=True, update=False)

    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        """`<prefix>_loss` (nats per image) and `<prefix>_accuracy` (0 to 1)."""
        return _summarise(totals, prefix)

    def _output(self, batch: Batch, mixing: MixingWeights, *, batch_statistics: bool, update: bool) -> LossOutput:
        self.draws = batch.draws
        scores = _wide(self.logits(batch.inputs, mixing, batch_statistics=batch_statistics, update=update))
        if batch.weights is None:
            loss_sum = plain = tangents.cross_entropy(scores, batch.targets, reduction="sum")
        else:
            losses = tangents.cross_entropy(scores, batch.targets, reduction="none")
            loss_sum, plain = (losses * batch.weights.to(losses.dtype)).sum(), losses.sum()
        return LossOutput(loss_sum / max(batch.num_samples, 1), None, _sums(scores, batch, plain))


class ClassifyingNetwork(DerivedNetwork, abc.ABC):
    """A derived network that scores classes."""

    sum_names = SUM_NAMES

    @abc.abstractmethod
    def score(self, batch: Batch, drop_path: float) -> Scores:
        """Class scores of the batch's images; drop-path in train mode only."""

    def training_loss(self, batch: Batch, carry: Tensor | None, settings: LossSettings) -> LossOutput:
        """Cross entropy with label smoothing and class weights, and `auxiliary_weight` times that of the auxiliary
        head (arXiv:1806.09055, appendix A.2.1). A sample's loss is weighted by its label's class and by the batch."""
        scores = self.score(batch, settings.drop_path)
        final = _wide(scores.final)
        loss_sum = _smoothed(final, batch, settings)
        if scores.auxiliary is not None:
            loss_sum = loss_sum + settings.auxiliary_weight * _smoothed(_wide(scores.auxiliary), batch, settings)
        plain = F.cross_entropy(final.detach(), batch.targets, reduction="sum")
        return LossOutput(loss_sum / max(batch.num_samples, 1), None, _sums(final, batch, plain))

    def evaluate(self, batch: Batch, carry: Tensor | None) -> LossOutput:
        """Cross entropy with running statistics."""
        scores = _wide(self.score(batch, 0.0).final)
        loss_sum = F.cross_entropy(scores, batch.targets, reduction="sum")
        return LossOutput(loss_sum / max(batch.num_samples, 1), None, _sums(scores, batch, loss_sum))

    def predict(self, inputs: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Class scores of normalised images, with running statistics; there is no carry."""
        unlabelled = Batch(inputs, inputs, _NO_DRAWS)  # no labels are read: a tensor of zeros would stay in the graph
        return self.score(unlabelled, 0.0).final, None

    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        """`<prefix>_loss` (nats per image) and `<prefix>_accuracy` (0 to 1)."""
        return _summarise(totals, prefix)


def _without_dropout(mixing: MixingWeights) -> MixingWeights:
    return {name: table for name, table in mixing.items() if name != SKIP_DROPOUT}


def _wide(scores: Tensor) -> Tensor:
    """Scores in float32 or better."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _sums(scores: Tensor, batch: Batch, loss_sum: Tensor) -> Tensor:
    """[loss_sum, correct, samples] of this shard."""
    correct = (scores.detach().argmax(dim=1) == batch.targets).sum().to(scores.dtype)
    total = loss_sum.detach()
    return torch.stack([total, correct, torch.full_like(total, batch.num_samples)])


def _summarise(totals: Sequence[float], prefix: str) -> dict[str, float]:
    loss_sum, correct, samples = totals
    return {f"{prefix}_loss": loss_sum / samples, f"{prefix}_accuracy": correct / samples}


def _smoothed(scores: Tensor, batch: Batch, settings: LossSettings) -> Tensor:
    """Sum of the smoothed, weighted cross entropy; a sum of samples, so that shards add up."""
    losses = F.cross_entropy(scores, batch.targets, reduction="none", label_smoothing=settings.label_smoothing)
    if settings.class_weights is not None:
        losses = losses * settings.class_weights.to(losses.dtype)[batch.targets]
    if batch.weights is not None:
        losses = losses * batch.weights.to(losses.dtype)
    return losses.sum()
