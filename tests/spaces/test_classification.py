"""What all spaces of image cells share: the loss and its sums."""

from __future__ import annotations

import torch
from torch import Tensor

from ray_darts.data.batch import Batch, Draws
from ray_darts.spaces.classification import ClassifyingSupernet
from ray_darts.spaces.supernet import MixingWeights, Pass


class Sure(ClassifyingSupernet):
    """Scores every sample right, in the half precision of an autocast pass."""

    def logits(self, images_NCHW: Tensor, mixing: MixingWeights, *, batch_statistics: bool, update: bool) -> Tensor:
        """[N, 2]."""
        return torch.tensor([[0.0, 9.0]]).expand(len(images_NCHW), 2).bfloat16()


def test_sums_count_exactly_whatever_the_precision_of_the_scores() -> None:
    count = 257  # which bfloat16 rounds to 256
    images, targets = torch.zeros(count, 1, 2, 2), torch.ones(count, dtype=torch.long)
    batch = Batch(images, targets, Draws(0, "train", 0, 0, count, count), 1.0)
    output = Sure().loss(batch, None, Pass.WEIGHT, {})
    assert output.loss.dtype is output.sums.dtype is torch.float32
    assert output.sums[1:].tolist() == [count, count]
