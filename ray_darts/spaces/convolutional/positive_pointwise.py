"""ReLU and pointwise convolution, at stride 2 the two of a factorised reduce; with the kernel as one node of the graph.

Suffixes: N samples, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.spaces import tangents
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.planned_device import uses_plain_operators
from ray_darts.spaces.second_derivatives import differentiable_gradients


def halve(positive_NCHW: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two 1x1 convolutions at stride 2, the second on the map shifted by one pixel; odd maps are padded with zeros.

    A departure from the paper, which has no odd maps: on those its two halves would differ in size.
    """
    height, width = positive_NCHW.shape[-2:]
    if height % 2 or width % 2:
        positive_NCHW = F.pad(positive_NCHW, (0, width % 2, 0, height % 2))
    # Subsample first: the backward pass of a strided convolution would read the whole map at stride 1.
    even, odd = positive_NCHW[:, :, ::2, ::2], positive_NCHW[:, :, 1::2, 1::2]
    return F.conv2d(even, first), F.conv2d(odd, second)


def halve_by_stride(positive_NCHW: Tensor, first: Tensor, second: Tensor, groups: int = 1) -> tuple[Tensor, Tensor]:
    """`halve` by strided convolutions in groups, in fewer calls: for GPUs."""
    height, width = positive_NCHW.shape[-2:]
    shifted = F.pad(positive_NCHW, (-1, width % 2, -1, height % 2))
    return (
        F.conv2d(positive_NCHW, first, stride=2, groups=groups),
        F.conv2d(shifted, second, stride=2, groups=groups),
    )


def positive_pointwise(inputs_NCHW: Tensor, weights: Sequence[Tensor], kernel: Kernel | None = None) -> Tensor:
    """The ReLU of the maps, then the pointwise convolution by the weight [D, C, 1, 1]; by two weights `halve`.

    `kernel`: computes it for the maps that it supports, but no tangents.
    """
    if kernel is None or not _fits(kernel, inputs_NCHW, weights):
        return _plain(inputs_NCHW, *weights)
    output: Tensor = _PositivePointwise.apply(kernel, inputs_NCHW, *weights)
    return output


def _plain(inputs: Tensor, *weights: Tensor) -> Tensor:
    positive = F.relu(inputs)
    return F.conv2d(positive, weights[0]) if len(weights) == 1 else torch.cat(halve(positive, *weights), dim=1)


def _fits(kernel: Kernel, inputs: Tensor, weights: Sequence[Tensor]) -> bool:
    plain = uses_plain_operators(inputs) or tangents.are_carried()
    return not plain and kernel.fits(inputs) and all(kernel.fits(weight.transpose(0, 1)) for weight in weights)


class _PositivePointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, kernel: Kernel, inputs: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, *weights)
        ctx.kernel = kernel  # type: ignore[attr-defined]
        return kernel.positive_pointwise(inputs, weights)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, *weights = ctx.saved_tensors  # type: ignore[attr-defined]
        _, of_maps, *of_weights = ctx.needs_input_grad  # type: ignore[attr-defined]
        if torch.is_grad_enabled():
            return None, *differentiable_gradients(_plain, (inputs, *weights), gradient)
        kernel = ctx.kernel  # type: ignore[attr-defined]
        return None, *kernel.positive_pointwise_gradient(
            gradient, inputs, weights, of_maps=of_maps, of_weights=of_weights
        )
