"""The operations of the convolutional space and one mixed edge as the paper draws them: a module call each, NCHW.

Independent of the package's layers and batch norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainNorm(nn.BatchNorm2d):
    """Batch statistics; running ones move only while `moving`."""

    moving = True

    def forward(self, input: Tensor) -> Tensor:
        """As nn.BatchNorm2d in training mode, or without its buffers."""
        if not self.training or self.moving:
            return super().forward(input)
        return F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)


def norm(channels: int, momentum: float, *, affine: bool = False) -> PlainNorm:
    """A batch norm, without affine unless asked for."""
    return PlainNorm(channels, momentum=momentum, affine=affine)


class Zero(nn.Module):
    """`none`: zeros, subsampled at stride 2."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by zero."""
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class FactorisedReduce(nn.Module):
    """Two 1x1 stride-2 convolutions, on x and on x shifted by one pixel; odd maps padded with zeros after ReLU."""

    def __init__(self, inputs: int, outputs: int, momentum: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.second = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.norm = norm(outputs, momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Halve height and width, rounding up."""
        x = F.relu(x)
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        halves = torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], dim=1)
        return self.norm(halves)  # type: ignore[no-any-return]


def relu_conv_norm(inputs: int, outputs: int, momentum: float) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch norm."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs, momentum))


def convolution(channels: int, kernel: int, stride: int, dilation: int, momentum: float) -> list[nn.Module]:
    """ReLU, depthwise, pointwise, batch norm."""
    padding = dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        norm(channels, momentum),
    ]


def operation(name: str, channels: int, stride: int, momentum: float) -> nn.Module:
    """One candidate."""
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorisedReduce(channels, channels, momentum)
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, stride, 1), norm(channels, momentum))
    if name == "avg_pool_3x3":
        return nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm(channels, momentum))
    kernel = int(name[-1])
    if name.startswith("dil"):
        return nn.Sequential(*convolution(channels, kernel, stride, 2, momentum))
    first = convolution(channels, kernel, stride, 1, momentum)
    return nn.Sequential(*first, *convolution(channels, kernel, 1, 1, momentum))


class MixedEdge(nn.Module):
    """Sum over operations of softmax(alpha) times the operation."""

    def __init__(self, names: Sequence[str], channels: int, stride: int, momentum: float) -> None:
        super().__init__()
        self.operations = nn.ModuleDict({name: operation(name, channels, stride, momentum) for name in names})

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """`weights` [operations]."""
        terms = [weight * op(x) for weight, op in zip(weights, self.operations.values(), strict=True)]
        return torch.stack(terms).sum(0) if len(terms) == 1 else sum(terms[1:], terms[0])


class PartialEdge(nn.Module):
    """The first 1 / parts of the channels are mixed, the others pass by, and all are shuffled (PC-DARTS)."""

    def __init__(self, names: Sequence[str], channels: int, stride: int, momentum: float, parts: int) -> None:
        super().__init__()
        self.mixed, self.parts, self.stride = MixedEdge(names, channels // parts, stride, momentum), parts, stride
        self.auxiliary: nn.Module | None = None

    def forward(self, x: Tensor, weights: Tensor, auxiliary: Tensor | None = None) -> Tensor:
        """`weights` [operations]; `auxiliary`: the weight of the auxiliary skip connection of the mixed channels."""
        first = x[:, : x.shape[1] // self.parts]
        mixed = self.mixed(first, weights)
        if auxiliary is not None:
            assert self.auxiliary is not None
            mixed = mixed + auxiliary * self.auxiliary(first)
        if self.parts == 1:
            return mixed  # type: ignore[no-any-return]
        rest = x[:, first.shape[1] :]
        if self.stride == 2:
            rest = F.pad(rest, (0, rest.shape[3] % 2, 0, rest.shape[2] % 2), value=float("-inf"))
            rest = F.max_pool2d(rest, 2)
        whole = torch.cat([mixed, rest], dim=1)
        size = whole.shape[1] // self.parts
        return whole[:, [c % self.parts * size + c // self.parts for c in range(whole.shape[1])]]
