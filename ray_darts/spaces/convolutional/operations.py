"""Candidate operations (arXiv:1806.09055, section 3.1), each as one module for all edges of a cell.

The weights of an operation on E edges are stacked in one parameter, edges sorted by source: the separate formulation
slices it by edge, the grouped one uses it as the weight of a grouped convolution. Knows no alphas and no cells.

Suffixes: N samples, C channels, H W pixels, E edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.spaces.batch_norm import BatchNorm, Maps, Norm, takes_pointwise
from ray_darts.spaces.convolutional.positive_pointwise import halve, halve_by_stride, positive_pointwise
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.layers import convolution_weight
from ray_darts.spaces.pointwise import Pointwise


@dataclass(frozen=True)
class Convolution:
    """`repeats` times (ReLU, depthwise, pointwise, batch norm); stride on the first."""

    kernel: int
    dilation: int
    repeats: int

    @property
    def padding(self) -> int:
        """The padding that keeps the size of the map at stride 1."""
        return self.dilation * (self.kernel - 1) // 2


CONVOLUTIONS = {
    "sep_conv_3x3": Convolution(kernel=3, dilation=1, repeats=2),
    "sep_conv_5x5": Convolution(kernel=5, dilation=1, repeats=2),
    "dil_conv_3x3": Convolution(kernel=3, dilation=2, repeats=1),
    "dil_conv_5x5": Convolution(kernel=5, dilation=2, repeats=1),
}


class Preprocess(nn.Module):
    """1x1 convolution, batch norm without affine; `halving`: a factorised reduce in place of the convolution.

    `by_stride`: how it halves, for GPUs. The caller applies the batch norm after it and, where that has no kernel, the
    ReLU before it; the kernel computes ReLU and convolution together.
    """

    def __init__(
        self, inputs: int, outputs: int, momentum: float, *, halving: bool = False, by_stride: bool = False
    ) -> None:
        super().__init__()
        self._halve = halve_by_stride if by_stride else halve
        shapes = [(outputs // 2, inputs, 1, 1)] * 2 if halving else [(outputs, inputs, 1, 1)]
        self.weights = nn.ParameterList([convolution_weight(*shape) for shape in shapes])
        self.batch_norm = BatchNorm(outputs, momentum=momentum)

    def forward(self, states_NCHW: Tensor) -> Maps:
        """[N, inputs, H, W] to [N, outputs, H, W], or half the height and width, rounded up."""
        if self.batch_norm.kernel is not None:
            return positive_pointwise(states_NCHW, list(self.weights), self.batch_norm.kernel)
        if len(self.weights) == 2:
            return torch.cat(self._halve(states_NCHW, self.weights[0], self.weights[1]), dim=1)
        if takes_pointwise(self.batch_norm, states_NCHW, self.weights[0]):
            return Pointwise(states_NCHW, self.weights[0], by_rows=False)
        return F.conv2d(states_NCHW, self.weights[0])


class StackedReduce(nn.Module):
    """The factorised reduce on E edges: `skip_connect` at stride 2."""

    def __init__(self, edges: int, channels: int, momentum: float) -> None:
        super().__init__()
        self.first = convolution_weight(edges, channels // 2, channels, 1, 1)
        self.second = convolution_weight(edges, channels // 2, channels, 1, 1)
        self.batch_norm = BatchNorm(edges * channels, momentum=momentum)

    def forward(self, positives: list[Tensor], kernel: Kernel | None = None) -> list[Tensor]:
        """Apply all edges to their sources [N, C, H, W] after ReLU; return [N, C, H/2, W/2] each, before batch norm.

        With `kernel`, the sources may be given before their ReLU.
        """
        channels = positives[0].shape[1]
        edges = len(self.first) // len(positives)
        if kernel is not None:
            pairs = list(zip(self.first.unbind(), self.second.unbind(), strict=True))
            return [positive_pointwise(positives[edge // edges], pair, kernel) for edge, pair in enumerate(pairs)]
        outputs: list[Tensor] = []
        for positive, *weights in zip(
            positives, self.first.chunk(len(positives)), self.second.chunk(len(positives)), strict=True
        ):
            halves = halve(positive, *(weight.reshape(-1, channels, 1, 1) for weight in weights))
            chunks = zip(*(half.chunk(edges, dim=1) for half in halves), strict=True)
            outputs += [torch.cat(chunk, dim=1) for chunk in chunks]
        return outputs

    def with_norms(
        self, positives: list[Tensor], weights: Tensor, kernel: Kernel | None = None
    ) -> tuple[list[Norm], list[Tensor]]:
        """As `forward`, with the batch norms to apply, whose results the edges' `weights` [E] multiply."""
        channels = positives[0].shape[1]
        gains = weights.unsqueeze(1).expand(-1, channels).contiguous()
        outputs = self(positives, kernel)
        starts = range(0, len(weights) * channels, channels)
        norms = [
            self.batch_norm.norm(start, start + channels, gain=gain)
            for start, gain in zip(starts, gains.unbind(), strict=True)
        ]
        return norms, outputs

    def side_by_side(self, positives: Tensor, num_sources: int) -> Tensor:
        """As `forward`, of sources [N, S * C, H, W] side by side; returns [N, E * C, H/2, W/2]."""
        halves = halve_by_stride(positives, self.first.flatten(0, 1), self.second.flatten(0, 1), groups=num_sources)
        return torch.cat([torch.unflatten(half, 1, (len(self.first), -1)) for half in halves], dim=2).flatten(1, 2)


class StackedStage(nn.Module):
    """(depthwise, pointwise, batch norm) of several operations on all edges; the ReLU before is applied per source.

    `pointwise` and the features of `batch_norm` are ordered by group of edges, operation, edge, so that each group is
    one block; `depthwise` weights are ordered by edge.
    """

    def __init__(self, names: Sequence[str], edges: int, channels: int, momentum: float) -> None:
        super().__init__()
        self.names = tuple(names)
        sizes = {name: CONVOLUTIONS[name].kernel for name in names}
        self.depthwise = nn.ParameterDict(
            {name: convolution_weight(edges, channels, 1, size, size) for name, size in sizes.items()}
        )
        self.pointwise = convolution_weight(len(names) * edges, channels, channels, 1, 1)
        self.batch_norm = BatchNorm(len(names) * edges * channels, momentum=momentum)
