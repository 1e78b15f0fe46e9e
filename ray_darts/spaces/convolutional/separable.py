"""Depthwise and pointwise convolutions; on CPUs with a custom backward pass, as PyTorch's is slow there.

Under autocast, under a compiler, on other devices and for second derivatives, PyTorch's own convolutions compute the
same function. Measurements: benchmarks/README.md.

Suffixes: N samples, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.spaces import tangents
from ray_darts.spaces.batch_norm import BatchNorm, takes_pointwise
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.planned_device import uses_plain_operators
from ray_darts.spaces.pointwise import Pointwise, convolution_backward, maps_of, product, rows


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
    if stride != 1 or uses_plain_operators(inputs_NCHW):
        return F.conv2d(depthwise(inputs_NCHW, weight, stride, dilation), mixing)
    output: Tensor = _Separable.apply(inputs_NCHW, weight, mixing, dilation, kernel)
    return output


def separable_before(
    batch_norm: BatchNorm,
    inputs_NCHW: Tensor,
    weight: Tensor,
    mixing: Tensor,
    stride: int,
    dilation: int,
    kernel: Kernel | None = None,
) -> Tensor | Pointwise:
    """`separable`, of which `batch_norm` computes the second convolution where that saves memory."""
    if not takes_pointwise(batch_norm, inputs_NCHW, mixing):
        return separable(inputs_NCHW, weight, mixing, stride, dilation, kernel)
    inputs_NCHW, stride, dilation = _undilated(inputs_NCHW, stride, dilation)
    if stride != 1:
        return Pointwise(depthwise(inputs_NCHW, weight, stride, dilation), mixing, by_rows=False)
    return Pointwise(_Depthwise.apply(inputs_NCHW, weight, dilation), mixing, by_rows=True)


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
            output = product(filtered, mixing)
            kept = (inputs if needs[1] else None, filtered if needs[2] else None)
        ctx.save_for_backward(*kept, weight, mixing)  # type: ignore[arg-type]
        if tangents.are_carried():
            ctx.set_materialize_grads(False)
            ctx.save_for_forward(inputs, weight, mixing)
        return output

    @staticmethod
    def jvp(ctx: FunctionCtx, *given: Tensor | None) -> Tensor | None:
        """Linear in each of its tensors: the sum of as many convolutions as have a tangent."""
        values = ctx.saved_tensors  # type: ignore[attr-defined]
        terms = []
        for index, tangent in enumerate(given[:3]):
            if tangent is not None:
                tensors = *values[:index], tangent, *values[index + 1 :]
                terms.append(_Separable.apply(*tensors, ctx.dilation, ctx.kernel))  # type: ignore[attr-defined]
        return sum(terms[1:], start=terms[0]) if terms else None

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
        above = rows(gradient)
        mixing_gradient = weight_gradient = input_gradient = None
        if needs[2]:
            mixing_gradient = torch.mm(above.t(), rows(filtered)).view(mixing.shape)
        if needs[0] or needs[1]:
            inner = maps_of(torch.mm(above, mixing.view(mixing.shape[:2])), gradient)
            input_gradient, weight_gradient = _depthwise_gradients(inner, inputs, weight, dilation, needs)
        return input_gradient, weight_gradient, mixing_gradient, None, None


class _Depthwise(torch.autograd.Function):
    """The first half of `_Separable`, before a pointwise convolution that the batch norm computes."""

    @staticmethod
    def forward(ctx: FunctionCtx, inputs: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.dilation = dilation  # type: ignore[attr-defined]
        return depthwise(inputs, weight, 1, dilation)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        needs, dilation = ctx.needs_input_grad, ctx.dilation  # type: ignore[attr-defined]
        if torch.is_grad_enabled():
            return *convolution_backward(gradient, inputs, weight, dilation, groups=weight.shape[0]), None
        return *_depthwise_gradients(gradient, inputs, weight, dilation, needs), None


def _differentiable_gradients(
    gradient: Tensor, inputs: Tensor | None, weight: Tensor, mixing: Tensor, dilation: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """All three gradients, by differentiable operators; without `inputs` only the input gradient."""
    if inputs is None:
        inner = F.conv2d(gradient, mixing.transpose(0, 1))
        return depthwise(inner, weight.flip(2, 3), 1, dilation), None, None
    filtered = depthwise(inputs, weight, 1, dilation)
    inner, mixing_gradient = convolution_backward(gradient, filtered, mixing)
    input_gradient, weight_gradient = convolution_backward(inner, inputs, weight, dilation, groups=weight.shape[0])
    return input_gradient, weight_gradient, mixing_gradient


def _depthwise_gradients(
    gradient: Tensor, inputs: Tensor | None, weight: Tensor, dilation: int, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients in the inputs and in the weight, each where it is needed."""
    input_gradient = depthwise(gradient, weight.flip(2, 3), 1, dilation) if needs[0] else None
    if not needs[1] or inputs is None:
        return input_gradient, None
    return input_gradient, _weight_gradient(gradient, inputs, weight, dilation)


def _weight_gradient(gradient: Tensor, inputs: Tensor, weight: Tensor, dilation: int) -> Tensor:
    if dilation == 2:
        gradient, inputs = _phases(gradient), _phases(inputs)
    groups = weight.shape[0]
    return convolution_backward(gradient, inputs, weight, 1, groups=groups, mask=(False, True))[1]


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
