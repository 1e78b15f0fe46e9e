"""Candidate operations (arXiv:1806.09055, section 3.1), each as one module for all edges of a cell.

The weights of an operation on E edges are stacked in one parameter, edges sorted by source: the separate formulation
slices it by edge, the grouped one uses it as the weight of a grouped convolution. Knows no alphas and no cells.

Suffixes: N samples, C channels, H W pixels, E edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ray_darts.spaces.batch_norm import BatchNorm
from ray_darts.spaces.convolutional.pointwise import halve, positive_pointwise
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.layers import convolution_weight


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


class ReluConvBn(nn.Module):
    """ReLU, 1x1 convolution, batch norm without affine; `halving`: a factorised reduce in place of the convolution.

    Returns the input of the batch norm, which the caller applies.
    """

    def __init__(self, inputs: int, outputs: int, momentum: float, *, halving: bool = False) -> None:
        super().__init__()
        shapes = [(outputs // 2, inputs, 1, 1)] * 2 if halving else [(outputs, inputs, 1, 1)]
        self.weights = nn.ParameterList([convolution_weight(*shape) for shape in shapes])
        self.batch_norm = BatchNorm(outputs, momentum=momentum)

    def forward(self, states_NCHW: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H, W], or half the height and width, rounded up."""
        return positive_pointwise(states_NCHW, list(self.weights), self.batch_norm.kernel)


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
