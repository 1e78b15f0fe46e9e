"""Building blocks of image cells (arXiv:1806.09055, appendix A.1.1), as layers whose batch norms are applied apart.

A block that has a batch norm after each convolution is cut into stages, [convolutions] -> batch norm, so that all
blocks of one source can be normalised together. Activations are channels_last; knows no alphas.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_darts.spaces.batch_norm import BatchNorm


def pad_to_even(images_NCHW: Tensor) -> Tensor:
    """Append a zero row and column where the map is odd, so that both shifts of a factorised reduce fit."""
    height, width = images_NCHW.shape[-2:]
    if height % 2 == 0 and width % 2 == 0:
        return images_NCHW
    return F.pad(images_NCHW, (0, width % 2, 0, height % 2))


class Stage(nn.Module):
    """Convolutions without bias, to be followed by `norm`; takes rectified input."""

    def __init__(self, convolutions: Sequence[nn.Conv2d], norm: BatchNorm) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.norm = norm

    def forward(self, rectified_NCHW: Tensor) -> Tensor:
        """Return what `norm` is to normalise."""
        for convolution in self.convolutions:
            rectified_NCHW = convolution(rectified_NCHW)
        return rectified_NCHW


class FactorisedReduce(nn.Module):
    """Halves the map: two 1x1 stride-2 convolutions, on x and on x shifted by one pixel, concatenated, then `norm`."""

    def __init__(self, inputs: int, outputs: int, norm: BatchNorm) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.norm = norm

    def forward(self, rectified_NCHW: Tensor) -> Tensor:
        """Return what `norm` is to normalise."""
        padded = pad_to_even(rectified_NCHW)
        return torch.cat([self.even(padded), self.odd(padded[:, :, 1:, 1:])], dim=1)


def depthwise(channels: int, kernel: int, stride: int, dilation: int) -> nn.Conv2d:
    """A depthwise convolution that keeps the map's size (at stride 1)."""
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)


def separable_stages(channels: int, kernel: int, stride: int, *, affine: bool, momentum: float) -> list[Stage]:
    """ReLU, depthwise, pointwise, BN, twice; the stride is on the first."""
    return [
        Stage(
            [depthwise(channels, kernel, s, 1), nn.Conv2d(channels, channels, 1, bias=False)],
            BatchNorm(channels, affine=affine, momentum=momentum),
        )
        for s in (stride, 1)
    ]


def dilated_stages(channels: int, kernel: int, stride: int, *, affine: bool, momentum: float) -> list[Stage]:
    """ReLU, depthwise with dilation 2, pointwise, BN."""
    convolutions = [depthwise(channels, kernel, stride, 2), nn.Conv2d(channels, channels, 1, bias=False)]
    return [Stage(convolutions, BatchNorm(channels, affine=affine, momentum=momentum))]


def preprocessing(inputs: int, outputs: int, *, halve: bool, affine: bool, momentum: float) -> Stage | FactorisedReduce:
    """ReLU, 1x1 convolution, BN; or a factorised reduce where the earlier cell reduced and this input did not."""
    norm = BatchNorm(outputs, affine=affine, momentum=momentum)
    if halve:
        return FactorisedReduce(inputs, outputs, norm)
    return Stage([nn.Conv2d(inputs, outputs, 1, bias=False)], norm)


def pooled(kind: str, images_NCHW: Tensor, stride: int) -> Tensor:
    """3x3 max or average pooling; the average does not count padding."""
    if kind == "max_pool_3x3":
        return F.max_pool2d(images_NCHW, 3, stride, 1)
    return F.avg_pool2d(images_NCHW, 3, stride, 1, count_include_pad=False)


def stages_of(operation: str, channels: int, stride: int, *, affine: bool, momentum: float) -> list[Stage]:
    """The stages of a convolution candidate by its name."""
    family, _, size = operation.rpartition("_")
    kernel = int(size.partition("x")[0])
    build = {"sep_conv": separable_stages, "dil_conv": dilated_stages}[family]
    return build(channels, kernel, stride, affine=affine, momentum=momentum)
