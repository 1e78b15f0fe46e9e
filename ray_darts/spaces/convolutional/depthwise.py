"""Depthwise convolution with a backward pass of its own on CPUs, where PyTorch's is slow for dilated and 5x5 kernels.

The same function in every mode; under autocast, a compiler, another device or where a second derivative is asked for,
it is PyTorch's own convolution. Measurements: benchmarks/README.md.

Suffixes: N samples, C channels, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ray_darts.spaces.convolutional.kernel import WeightGradient


def depthwise(
    inputs_NCHW: Tensor, weight: Tensor, stride: int, dilation: int, kernel: WeightGradient | None = None
) -> Tensor:
    """Convolve each channel by its own kernel of `weight` [C, 1, k, k], padded to keep the size at stride 1.

    `kernel`: makes the weight gradient where it can.
    """
    padding = dilation * (weight.shape[-1] - 1) // 2
    if stride == 2 and dilation == 2:
        # All taps fall on even rows and columns: an undilated convolution of every second pixel.
        return depthwise(inputs_NCHW[:, :, ::2, ::2], weight, 1, 1, kernel)
    on_cpu = inputs_NCHW.device.type == "cpu"
    if stride == 1 and on_cpu and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling():
        output: Tensor = _Depthwise.apply(inputs_NCHW, weight, padding, dilation, kernel)
        return output
    return F.conv2d(inputs_NCHW, weight, None, stride, padding, dilation, groups=weight.shape[0])


class _Depthwise(torch.autograd.Function):
    """At stride 1. The input gradient is the convolution of the output gradient by the turned kernel, which runs at
    the speed of the forward pass (8 times that of PyTorch's backward where dilated)."""

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor, padding: int, dilation: int, kernel: WeightGradient | None) -> Tensor:
        return F.conv2d(inputs, weight, None, 1, padding, dilation, groups=weight.shape[0])

    @staticmethod
    def setup_context(
        ctx: torch.autograd.function.FunctionCtx,
        inputs: tuple[Tensor, Tensor, int, int, WeightGradient | None],
        output: Tensor,
    ) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.padding, ctx.dilation, ctx.kernel = inputs[2:]  # type: ignore[attr-defined]

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        inputs, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_input, needs_weight = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        padding, dilation, kernel = ctx.padding, ctx.dilation, ctx.kernel  # type: ignore[attr-defined]
        if torch.is_grad_enabled():
            mask = (needs_input, needs_weight)
            return *_native_gradients(gradient, inputs, weight, padding, dilation, mask), None, None, None
        input_gradient = weight_gradient = None
        if needs_input:
            turned = weight.flip(2, 3)
            input_gradient = F.conv2d(gradient, turned, None, 1, padding, dilation, groups=weight.shape[0])
        if needs_weight and kernel is not None and kernel.fits(inputs, weight.shape[-1]):
            weight_gradient = kernel(gradient, inputs, weight.shape[-1], dilation)
        elif needs_weight:
            weight_gradient = _weight_gradient(gradient, inputs, weight, padding, dilation)
        return input_gradient, weight_gradient, None, None, None


def _weight_gradient(gradient: Tensor, inputs: Tensor, weight: Tensor, padding: int, dilation: int) -> Tensor | None:
    if dilation == 2:
        gradient, inputs, padding, dilation = _phases(gradient), _phases(inputs), padding // 2, 1
    return _native_gradients(gradient, inputs, weight, padding, dilation, (False, True))[1]


def _phases(maps_NCHW: Tensor) -> Tensor:
    """[N, C, H, W] to [4N, C, H/2, W/2], even and odd rows and columns apart: dilation 2 becomes dilation 1.

    Odd maps are padded with zeros.
    """
    height, width = maps_NCHW.shape[2:]
    if height % 2 or width % 2:
        maps_NCHW = F.pad(maps_NCHW, (0, width % 2, 0, height % 2))
    samples, channels, height, width = maps_NCHW.shape
    split = maps_NCHW.permute(0, 2, 3, 1).reshape(samples, height // 2, 2, width // 2, 2, channels)
    phases = split.permute(2, 4, 0, 1, 3, 5).reshape(4 * samples, height // 2, width // 2, channels)
    return phases.permute(0, 3, 1, 2)


def _native_gradients(
    gradient: Tensor, inputs: Tensor, weight: Tensor, padding: int, dilation: int, mask: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    gradients: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        gradient,
        inputs,
        weight,
        None,
        [1, 1],
        [padding, padding],
        [dilation, dilation],
        False,
        [0, 0],
        weight.shape[0],
        [*mask, False],
    )
    return gradients[0], gradients[1]
