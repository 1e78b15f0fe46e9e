"""A pointwise convolution and the batch norm after it as one node of the graph, which keeps the input of both.

The batch norm's backward pass reads its input. That is computed again, bit for bit, by the cheapest operator of a
network, so a map of activations fewer is kept. Knows no policy and no space.

Suffixes: N samples, C and D channels, H W pixels; R = N H W rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.spaces.planned_device import is_for_cpu


@dataclass(frozen=True)
class Pointwise:
    """The convolution of `maps_NCHW` by `weight` [D, C, 1, 1], to be computed by the batch norm that reads it.

    `by_rows`: as a product of [R, C], on CPUs faster; the last bits differ.
    """

    maps_NCHW: Tensor
    weight: Tensor
    by_rows: bool

    @property
    def num_values(self) -> int:
        """R."""
        return self.maps_NCHW.numel() // self.maps_NCHW.shape[1]

    def computed(self) -> Tensor:
        """[N, D, H, W]."""
        return F.conv2d(self.maps_NCHW, self.weight)

    def normalised(
        self,
        gain: Tensor | None,
        bias: Tensor | None,
        running: tuple[Tensor, Tensor] | None,
        momentum: float,
        epsilon: float,
    ) -> Tensor:
        """Normalised by the batch's statistics; updates `running` (mean, variance)."""
        output: Tensor = _PointwiseNorm.apply(
            self.maps_NCHW, self.weight, gain, bias, self.by_rows, running, momentum, epsilon
        )
        return output


class _PointwiseNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        maps: Tensor,
        weight: Tensor,
        gain: Tensor | None,
        bias: Tensor | None,
        by_rows: bool,
        running: tuple[Tensor, Tensor] | None,
        momentum: float,
        epsilon: float,
    ) -> Tensor:
        output, *statistics = _normalised_(
            _mixed(maps, weight, by_rows=by_rows), gain, bias, running, momentum, epsilon
        )
        ctx.save_for_backward(maps, weight, gain, *statistics)  # type: ignore[arg-type]
        ctx.by_rows, ctx.epsilon = by_rows, epsilon  # type: ignore[attr-defined]
        return output

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, gain, mean, scale = ctx.saved_tensors  # type: ignore[attr-defined]
        by_rows = ctx.by_rows and not torch.is_grad_enabled()  # type: ignore[attr-defined]
        needs, epsilon = ctx.needs_input_grad, ctx.epsilon  # type: ignore[attr-defined]
        mixed = _mixed(maps, weight, by_rows=by_rows)
        before, of_gain, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, mixed, gain, None, None, mean, scale, True, epsilon, [True, *needs[2:4]]
        )
        del mixed
        if by_rows:
            above = rows(before)
            of_maps = maps_of(torch.mm(above, weight.view(weight.shape[:2])), before)
            of_weight = torch.mm(above.t(), rows(maps)).view(weight.shape)
        else:
            of_maps, of_weight = convolution_backward(before, maps, weight)
        return of_maps, of_weight, of_gain if needs[2] else None, of_bias if needs[3] else None, None, None, None, None


def _normalised_(
    mixed_NDHW: Tensor,
    gain: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor, Tensor] | None,
    momentum: float,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(normalised, mean, 1 / deviation) of maps that nobody else reads: on a CPU in their place."""
    means, variances = running or (None, None)
    arguments = mixed_NDHW, gain, bias, means, variances, True, momentum, epsilon
    found: tuple[Tensor, Tensor, Tensor]
    if is_for_cpu(mixed_NDHW):  # each value is read once, after the statistics, and then written
        mean, scale = mixed_NDHW.new_empty(2, mixed_NDHW.shape[1]).unbind()
        found = torch.ops.aten.native_batch_norm.out(*arguments, out=mixed_NDHW, save_mean=mean, save_invstd=scale)
    else:
        found = torch.native_batch_norm(*arguments)
    return found


def _mixed(maps_NCHW: Tensor, weight: Tensor, *, by_rows: bool) -> Tensor:
    return product(maps_NCHW, weight) if by_rows else F.conv2d(maps_NCHW, weight)


def product(maps_NCHW: Tensor, weight: Tensor) -> Tensor:
    """The pointwise convolution by `weight` [D, C, 1, 1] as a product of rows, without a gradient; not a view."""
    samples, _, height, width = maps_NCHW.shape
    shape = samples, len(weight), height, width
    mixed = torch.empty(shape, dtype=maps_NCHW.dtype, device=maps_NCHW.device, memory_format=torch.channels_last)
    torch.mm(rows(maps_NCHW), weight.view(weight.shape[:2]).t(), out=rows(mixed))
    return mixed


def rows(maps_NCHW: Tensor) -> Tensor:
    """[R, C], a view of maps in channels_last."""
    return maps_NCHW.permute(0, 2, 3, 1).reshape(-1, maps_NCHW.shape[1])


def maps_of(rows_RC: Tensor, like_NCHW: Tensor) -> Tensor:
    """[N, C, H, W] in channels_last, with the samples and the size of `like_NCHW`."""
    samples, _, height, width = like_NCHW.shape
    return rows_RC.view(samples, height, width, rows_RC.shape[1]).permute(0, 3, 1, 2)


def convolution_backward(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    dilation: int = 1,
    *,
    groups: int = 1,
    mask: tuple[bool, bool] = (True, True),
) -> tuple[Tensor, Tensor]:
    """PyTorch's input and weight gradients of a convolution that keeps the size at stride 1."""
    padding = dilation * (weight.shape[-1] - 1) // 2
    pairs = [1, 1], [padding, padding], [dilation, dilation]
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient, inputs, weight, None, *pairs, False, [0, 0], groups, [*mask, False]
    )
    return gradients[0], gradients[1]
