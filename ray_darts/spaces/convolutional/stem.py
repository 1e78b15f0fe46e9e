"""The layers before the first cell, in the supernet and in derived networks; batch norms here are affine."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.spaces.layers import ConvBn

StemKind = Literal["cifar", "imagenet"]


class Stem(nn.Module):
    """Computes the two input states of the first cell.

    `cifar`: one convolution to 3C channels; both states are its output. `imagenet`: three convolutions of stride 2; the
    states are the outputs of the second and the third, C channels at a quarter and an eighth of the size, so the first
    cell halves its first input. `channels`: of the two states; `halving`: whether their sizes differ.
    """

    def __init__(self, kind: StemKind, inputs: int, channels: int, momentum: float) -> None:
        super().__init__()
        if kind == "cifar":
            sizes = [(inputs, 3 * channels, 1)]
        else:
            sizes = [(inputs, channels // 2, 2), (channels // 2, channels, 2), (channels, channels, 2)]
        self.layers = nn.ModuleList([ConvBn(*size, momentum) for size in sizes])
        self.channels = (sizes[-1][1], sizes[-1][1])
        self.halving = kind == "imagenet"

    def forward(self, images_NCHW: Tensor, *, batch_statistics: bool, update: bool) -> tuple[Tensor, Tensor]:
        """The states before the first cell, the older one first."""
        first, *others = [partial(layer, batch_statistics=batch_statistics, update=update) for layer in self.layers]
        state: Tensor = first(images_NCHW)
        states = [state]
        for layer in others:
            states.append(layer(F.relu(states[-1])))
        return (states[-2], states[-1]) if others else (state, state)
