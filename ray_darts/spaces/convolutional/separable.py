"""Depthwise and pointwise convolutions; on CPUs with a custom backward pass, as PyTorch's is slow there.

Under autocast, under a compiler, on other devices and for second derivatives, PyTorch's own convolutions compute the
same function. Measurements: benchmarks/README.md.

Suffixes: N samples, C channels, H W pixels; R = N H W rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.planned_device import is_for_cpu


def depthwise(inputs_NCHW: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Convolve each channel with its kernel of `weight` [C, 1, k, k], padded to keep the size at stride 1."""
    inputs_NCHW, stride, dilation = _undilated(inputs_NCHW, stride, dilation)
    padding = dilation * (weight.shape[-1] - 1) // 2
    return F.conv2d(inputs_NCHW, weight, None, stride, padding, dilation, groups=weight.shape[0])


def separable(
    inputs_NCHW: Tensor,
    weight: Tensor,
    mixing: Tensor,
    stride: int,
    dilation: int,
    kernel: Kernel | None = None,
) -> Tensor:
    """`depthwise` by `weight` [C, 1, k, k], then pointwise by `mixing` [C, C, 1, 1].

    `kernel`: computes both for the maps that it supports.
    """
    inputs_NCHW, stride, dilation = _undilated(inputs_NCHW, stride, dilation)
    plain = torch.compiler.is_compiling() or not is_for_cpu(inputs_NCHW) or torch.is_autocast_enabled("cpu")
    if plain or stride != 1:
        return F.conv2d(depthwise(inputs_NCHW, weight, stride, dilation), mixing)
    output: Tensor = _Separable.apply(inputs_NCHW, weight, mixing, dilation, kernel)
    return output


def _undilated(inputs_NCHW: Tensor, stride: int, dilation: int) -> tuple[Tensor, int, int]:
    """Rewrite dilation 2 at stride 2, which reads only even rows and columns, as an undilated convolution of those."""
    if stride == 2 and dilation == 2:
        return inputs_NCHW[:, :, ::2, ::2], 1, 1
    return inputs_NCHW, stride, dilation


class _Separable(torch.autograd.Function):
    """Both convolutions at stride 1 as one autograd node: a step has thousands, so autograd's overhead matters.

    The input gradient of the depthwise convolution is a convolution with the rotated kernel, as fast as the forward
    pass (8 times as fast as PyTorch's backward if dilated); pointwise convolutions are matrix products of [R, C].
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, inputs: Tensor, weight: Tensor, mixing: Tensor, dilation: int, kernel: Kernel | None
    ) -> Tensor:
        if kernel is not None and not kernel.fits(inputs, weight.shape[-1]):
            kernel = None
        ctx.dilation, ctx.kernel = dilation, kernel  # type: ignore[attr-defined]
        needs = ctx.needs_input_grad  # type: ignore[attr-defined]
        kept: tuple[Tensor | None, Tensor | None]
        if kernel is not None:  # computes the depthwise result again, which is cheaper than to read it
            output = kernel.separable(inputs, weight, mixing, dilation)
            kept = (inputs if needs[1] or needs[2] else None, None)
        else:
            filtered = depthwise(inputs, weight, 1, dilation)
            output = _maps(torch.mm(_rows(filtered), mixing.view(mixing.shape[:2]).t()), filtered)
            kept = (inputs if needs[1] else None, filtered if needs[2] else None)
        ctx.save_for_backward(*kept, weight, mixing)  # type: ignore[arg-type]
        return output

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        inputs, filtered, weight, mixing = ctx.saved_tensors  # type: ignore[attr-defined]
        needs = ctx.needs_input_grad  # type: ignore[attr-defined]
        dilation, kernel = ctx.dilation, ctx.kernel  # type: ignore[attr-defined]
        if torch.is_grad_enabled():
            return *_differentiable_gradients(gradient, inputs, weight, mixing, dilation), None, None
        if kernel is not None:
            found = kernel.separable_gradient(gradient, inputs, weight, mixing, dilation, of_maps=needs[0])
            return *found, None, None
        rows = _rows(gradient)
        mixing_gradient = weight_gradient = input_gradient = None
        if needs[2]:
            mixing_gradient = torch.mm(rows.t(), _rows(filtered)).view(mixing.shape)
        if needs[0] or needs[1]:
            inner = _maps(torch.mm(rows, mixing.view(mixing.shape[:2])), gradient)
            if needs[0]:
                input_gradient = depthwise(inner, weight.flip(2, 3), 1, dilation)
            if needs[1]:
                weight_gradient = _weight_gradient(inner, inputs, weight, dilation)
        return input_gradient, weight_gradient, mixing_gradient, None, None


def _rows(maps_NCHW: Tensor) -> Tensor:
    return maps_NCHW.permute(0, 2, 3, 1).reshape(-1, maps_NCHW.shape[1])


def _maps(rows_RC: Tensor, like_NCHW: Tensor) -> Tensor:
    samples, _, height, width = like_NCHW.shape
    return rows_RC.view(samples, height, width, rows_RC.shape[1]).permute(0, 3, 1, 2)


def _differentiable_gradients(
    gradient: Tensor, inputs: Tensor | None, weight: Tensor, mixing: Tensor, dilation: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """All three gradients, by differentiable operators; without `inputs` only the input gradient."""
    if inputs is None:
        inner = F.conv2d(gradient, mixing.transpose(0, 1))
        return depthwise(inner, weight.flip(2, 3), 1, dilation), None, None
    filtered = depthwise(inputs, weight, 1, dilation)
    inner, mixing_gradient = _convolution_backward(gradient, filtered, mixing, 1, groups=1)
    input_gradient, weight_gradient = _convolution_backward(inner, inputs, weight, dilation, groups=weight.shape[0])
    return input_gradient, weight_gradient, mixing_gradient


def _weight_gradient(gradient: Tensor, inputs: Tensor, weight: Tensor, dilation: int) -> Tensor:
    if dilation == 2:
        gradient, inputs = _phases(gradient), _phases(inputs)
    groups = weight.shape[0]
    return _convolution_backward(gradient, inputs, weight, 1, groups=groups, mask=(False, True))[1]


def _phases(maps_NCHW: Tensor) -> Tensor:
    """[N, C, H, W] to [4N, C, H/2, W/2], separating even and odd rows and columns: dilation 2 becomes 1.

    Odd maps are padded with zeros.
    """
    height, width = maps_NCHW.shape[2:]
    if height % 2 or width % 2:
        maps_NCHW = F.pad(maps_NCHW, (0, width % 2, 0, height % 2))
    samples, channels, height, width = maps_NCHW.shape
    split = maps_NCHW.permute(0, 2, 3, 1).reshape(samples, height // 2, 2, width // 2, 2, channels)
    phases = split.permute(2, 4, 0, 1, 3, 5).reshape(4 * samples, height // 2, width // 2, channels)
    return phases.permute(0, 3, 1, 2)


def _convolution_backward(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    dilation: int,
    *,
    groups: int,
    mask: tuple[bool, bool] = (True, True),
) -> tuple[Tensor, Tensor]:
    """PyTorch's input and weight gradients of a convolution that keeps the size at stride 1."""
    padding = dilation * (weight.shape[-1] - 1) // 2
    pairs = [1, 1], [padding, padding], [dilation, dilation]
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient, inputs, weight, None, *pairs, False, [0, 0], groups, [*mask, False]
    )
    return gradients[0], gradients[1]
