"""Batch norm with an explicit policy: which statistics normalise, and which passes update the running ones.

Every batch norm of every space is a `BatchNorm`; `normalise` applies several of equal depth at once, so that one
collective sums the synchronised statistics of all of them. The caller gives the sum over ranks (`synchronise`); this
module knows no ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from ray_darts.spaces import tangents
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.moving_norm import moved, normalise_moving
from ray_darts.spaces.planned_device import uses_plain_operators
from ray_darts.spaces.pointwise import Pointwise

MomentsReducer = Callable[[Tensor], Tensor]
"""Sum of a flat vector over ranks, differentiable as often as the loss is; every rank calls it in the same order."""

Maps = Tensor | Pointwise

Normalise = Callable[[Sequence["Norm"], Sequence[Maps]], list[Tensor]]
"""`normalise` with its policy bound."""

_REDUCED = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Norm:
    """Features [start, stop) of a `BatchNorm` for one forward pass, and the factor and offset of the result.

    `gain`, `bias`: [features] or None; a gain must be contiguous (torch's channels_last kernel reads it densely).
    `views`: of the running mean and variance. `on_copies`: update copies of the running statistics, not the buffers.
    """

    module: BatchNorm
    gain: Tensor | None
    bias: Tensor | None
    views: Callable[[], tuple[Tensor, Tensor]]
    on_copies: bool = False

    def running(self) -> tuple[Tensor, Tensor]:
        """Running mean and variance: views of the buffers, or copies."""
        mean, var = self.views()
        return (mean.clone(), var.clone()) if self.on_copies else (mean, var)


class BatchNorm(nn.Module):
    """Normalises over all dimensions but the second (the last, for [N, C]); inputs [N, C, ...], dtype kept.

    Statistics of the batch are this shard's, or the global batch's once `synchronise` has been called. The running
    variance is the unbiased one, of the global batch. Statistics stay in float32 under autocast.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, num_features: int, *, momentum: float = 0.1, affine: bool = False, epsilon: float = 1e-5
    ) -> None:
        super().__init__()
        self.num_features, self.momentum, self.epsilon = num_features, momentum, epsilon
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.moments_reducer: MomentsReducer | None = None
        self.kernel: Kernel | None = None
        self.on_copies = False  # for all norms of it, while a pass is repeated

    def forward(self, inputs: Tensor, *, batch_statistics: bool, update: bool = False) -> Tensor:
        """Normalise by the batch's statistics (updating the running ones if `update`), or by the running ones."""
        return normalise([self.norm()], [inputs], batch_statistics=batch_statistics, update=update)[0]

    def norm(self, start: int = 0, stop: int | None = None, *, gain: Tensor | None = None) -> Norm:
        """Features [start, stop); `gain` [stop - start], of any strides, multiplies the result, affine included."""
        stop = self.num_features if stop is None else stop
        if gain is not None:
            gain = gain.contiguous()
        views = partial(self._running, start, stop)
        if self.weight is None or self.bias is None:
            return Norm(self, gain, None, views, self.on_copies)
        weight, bias = (_part(whole, start, stop) for whole in (self.weight, self.bias))
        if gain is not None:
            weight, bias = weight * gain, bias * gain
        return Norm(self, weight, bias, views, self.on_copies)

    def norms(self, sizes: Sequence[int], gains: Sequence[Tensor] | None = None) -> list[Norm]:
        """Consecutive blocks of features, without affine; running statistics are split once, when they are needed."""
        blocks = _RunningBlocks(self, sizes)
        views = [partial(blocks.views, number) for number in range(len(sizes))]
        return [Norm(self, gains[number] if gains else None, None, each) for number, each in enumerate(views)]

    def _running(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        return _part(self.running_mean, start, stop), _part(self.running_var, start, stop)

    def extra_repr(self) -> str:
        """Settings that `print(module)` shows."""
        return f"{self.num_features}, momentum={self.momentum}, affine={self.weight is not None}"


class _RunningBlocks:
    """The running statistics of a module in consecutive blocks, split when they are first read."""

    def __init__(self, module: BatchNorm, sizes: Sequence[int]) -> None:
        self._module, self._sizes = module, list(sizes)
        self._views: list[tuple[Tensor, Tensor]] = []

    def views(self, number: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of one block."""
        if not self._views:
            whole = self._module.running_mean, self._module.running_var
            self._views = list(zip(*(torch.split(buffer, self._sizes) for buffer in whole), strict=True))
        return self._views[number]


def _part(features: Tensor, start: int, stop: int) -> Tensor:
    return features if start == 0 and stop == len(features) else features[start:stop]


def synchronise(network: nn.Module, reducer: MomentsReducer) -> None:
    """Make every `BatchNorm` of `network` normalise by the global batch; `reducer` sums over the ranks."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.moments_reducer = reducer


def use_kernel(network: nn.Module, kernel: Kernel) -> None:
    """Make every `BatchNorm` of `network` use the compiled kernel for the maps that it supports."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.kernel = kernel


def takes_pointwise(module: BatchNorm, inputs: Tensor, weight: Tensor) -> bool:
    """Whether `module` is to compute the pointwise convolution of `inputs` by `weight` before it, too.

    It does where that saves memory, on a CPU, with the statistics of this shard by PyTorch's operators.
    """
    saves = torch.is_grad_enabled() and weight.requires_grad
    local = module.moments_reducer is None and module.kernel is None
    return saves and local and not uses_plain_operators(inputs)


def normalise(
    norms: Sequence[Norm], inputs: Sequence[Maps], *, batch_statistics: bool, update: bool = False
) -> list[Tensor]:
    """Apply norms of equal depth to their inputs; with synchronised statistics, in one collective.

    `batch_statistics`: normalise by the batch, else by the running statistics; `update`: update the running ones.
    """
    reducer = norms[0].module.moments_reducer if norms else None
    if batch_statistics and reducer is not None:
        maps = [x.computed() if isinstance(x, Pointwise) else x for x in inputs]
        return _normalise_globally(norms, maps, reducer, update)
    return [_normalise_alone(norm, x, batch_statistics, update) for norm, x in zip(norms, inputs, strict=True)]


def _normalise_alone(norm: Norm, inputs: Maps, batch_statistics: bool, update: bool) -> Tensor:
    kernel = norm.module.kernel
    if isinstance(inputs, Pointwise):
        if batch_statistics and inputs.num_values > 1:
            running = norm.running() if update else None
            return inputs.normalised(norm.gain, norm.bias, running, norm.module.momentum, norm.module.epsilon)
        inputs = inputs.computed()
    if batch_statistics and kernel is not None and kernel.fits(inputs) and inputs.numel() > inputs.shape[1]:
        normalised: Tensor = _Compiled.apply(inputs, norm.gain, norm.bias, norm, update, kernel)
        return normalised
    if batch_statistics and not update and tangents.are_carried() and inputs.dtype not in _REDUCED:
        return normalise_moving(inputs, norm.gain, norm.bias, norm.module.epsilon)
    mean: Tensor | None = None
    var: Tensor | None = None
    if update or not batch_statistics:
        mean, var = norm.running()
    elif inputs.dtype in _REDUCED:
        # The kernel writes statistics in the dtype of the buffers given to it.
        mean, var = replace(norm, on_copies=True).running()
    momentum, epsilon = norm.module.momentum, norm.module.epsilon
    if norm.bias is None and batch_statistics and inputs.numel() > inputs.shape[1]:
        # What F.batch_norm calls in the end, as cuDNN takes no batch norm without a bias.
        return torch.native_batch_norm(inputs, norm.gain, None, mean, var, True, momentum, epsilon)[0]
    return F.batch_norm(inputs, mean, var, norm.gain, norm.bias, batch_statistics, momentum, epsilon)


class _Compiled(torch.autograd.Function):
    """Batch norm by the batch's statistics with the kernel; second derivatives use PyTorch's gradient."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        inputs: Tensor,
        gain: Tensor | None,
        bias: Tensor | None,
        norm: Norm,
        update: bool,
        kernel: Kernel,
    ) -> Tensor:
        running = norm.running() if update else None
        momentum, epsilon = norm.module.momentum, norm.module.epsilon
        output, mean, scale = kernel.batch_norm(inputs, gain, bias, running, momentum, epsilon)
        ctx.save_for_backward(inputs, gain, mean, scale)  # type: ignore[arg-type]
        if tangents.are_carried():
            ctx.save_for_forward(inputs, gain, mean, scale)  # type: ignore[arg-type]
        ctx.set_materialize_grads(False)
        ctx.kernel, ctx.epsilon = kernel, epsilon  # type: ignore[attr-defined]
        return output

    @staticmethod
    def jvp(ctx: FunctionCtx, *given: Tensor | None) -> Tensor | None:
        inputs, gain, mean, scale = ctx.saved_tensors  # type: ignore[attr-defined]
        kernel, epsilon = ctx.kernel, ctx.epsilon  # type: ignore[attr-defined]
        return moved(inputs, gain, (mean, scale), epsilon, (given[0], given[1], given[2]), kernel.project)

    @staticmethod
    def backward(
        ctx: FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        inputs, gain, mean, scale = ctx.saved_tensors  # type: ignore[attr-defined]
        needs, kernel = ctx.needs_input_grad, ctx.kernel  # type: ignore[attr-defined]
        if torch.is_grad_enabled():
            epsilon = ctx.epsilon  # type: ignore[attr-defined]
            of_input, of_gain, of_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, inputs, gain, None, None, mean, scale, True, epsilon, list(needs[:3])
            )
            return of_input, of_gain if needs[1] else None, of_bias if needs[2] else None, None, None, None
        found = kernel.batch_norm_gradient(gradient, inputs, gain, mean, scale, of_gain=needs[1], of_bias=needs[2])
        return *found, None, None, None


def _normalise_globally(
    norms: Sequence[Norm], inputs: Sequence[Tensor], reducer: MomentsReducer, update: bool
) -> list[Tensor]:
    """Take moments about the running mean (equal on all ranks), so that E[x^2] - E[x]^2 loses little precision."""
    wide = [x.to(torch.promote_types(x.dtype, torch.float32)) for x in inputs]
    moments: list[Tensor] = []
    running = [norm.running() for norm in norms]
    for (running_mean, _), x in zip(running, wide, strict=True):
        var, mean = torch.var_mean(x, [dim for dim in range(x.dim()) if dim != 1], correction=0)
        count = x.numel() // x.shape[1]
        offset = mean - running_mean
        moments += [offset * count, (var + offset.square()) * count, mean.new_full((1,), count)]
    totals = torch.split(reducer(torch.cat(moments)), [moment.numel() for moment in moments])
    outputs = []
    for index, (norm, x) in enumerate(zip(norms, wide, strict=True)):
        first, second, samples = totals[3 * index : 3 * index + 3]
        offset = first / samples
        var = second / samples - offset.square()
        mean = offset + running[index][0]
        if update:
            unbiased = var.detach() * (samples / (samples - 1)).detach()
            running[index][0].lerp_(mean.detach(), norm.module.momentum)
            running[index][1].lerp_(unbiased, norm.module.momentum)
        outputs.append(_standardise(norm, x, mean, var).to(inputs[index].dtype))
    return outputs


def _standardise(norm: Norm, inputs: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    scale = torch.rsqrt(var + norm.module.epsilon)
    if norm.gain is not None:
        scale = scale * norm.gain
    shift = -mean * scale if norm.bias is None else norm.bias - mean * scale
    shape = [1, -1, *[1] * (inputs.dim() - 2)]
    return inputs * scale.view(shape) + shift.view(shape)
