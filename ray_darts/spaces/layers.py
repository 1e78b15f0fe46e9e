"""Layers on feature maps that several spaces use. Knows no space and no alphas.

Suffixes: N samples, C channels, H W pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.spaces.batch_norm import BatchNorm


def convolution_weight(*shape: int) -> nn.Parameter:
    """A weight [..., C_in, k, k], uniform in +- 1 / sqrt(C_in k k) as nn.Conv2d starts its own."""
    bound = 1 / math.sqrt(math.prod(shape[-3:]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


POOLS = ("max_pool_3x3", "avg_pool_3x3")


def pool(name: str, states_NCHW: Tensor, stride: int) -> Tensor:
    """3x3 pooling with padding 1; the average does not count padding."""
    if name == "max_pool_3x3":
        return F.max_pool2d(states_NCHW, 3, stride, 1)
    return F.avg_pool2d(states_NCHW, 3, stride, 1, count_include_pad=False)


class Pool(nn.Module):
    """A pool without batch norm."""

    def __init__(self, name: str, stride: int) -> None:
        super().__init__()
        self._name, self._stride = name, stride

    def forward(self, inputs_NCHW: Tensor) -> Tensor:
        """[N, C, H / stride, W / stride], rounded up."""
        return pool(self._name, inputs_NCHW, self._stride)


class ConvBn(nn.Module):
    """A 3x3 convolution with padding 1, then an affine batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int, momentum: float) -> None:
        super().__init__()
        self.weight = convolution_weight(outputs, inputs, 3, 3)
        self.batch_norm = BatchNorm(outputs, momentum=momentum, affine=True)
        self._stride = stride

    def forward(self, inputs: Tensor, *, batch_statistics: bool, update: bool) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride], rounded up."""
        convolved = F.conv2d(inputs, self.weight, None, self._stride, 1)
        return self.batch_norm(convolved, batch_statistics=batch_statistics, update=update)  # type: ignore[no-any-return]


class Layers(nn.Sequential):
    """Modules in a row; their batch norms use and move statistics in training mode."""

    def forward(self, inputs: Tensor) -> Tensor:
        """As nn.Sequential."""
        for layer in self:
            if isinstance(layer, BatchNorm):
                inputs = layer(inputs, batch_statistics=self.training, update=self.training)
            else:
                inputs = layer(inputs)
        return inputs
