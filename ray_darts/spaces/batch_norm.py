"""Batch norm with a stated policy: whose statistics, and who may move the running ones.

Every batch norm of every space is a `BatchNorm`; `normalise` applies several of equal depth at once, so that
synchronised statistics of all of them travel in one collective. How moments are summed over ranks is injected
(`synchronise`); this module knows no ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MomentsReducer = Callable[[Tensor], Tensor]
"""Sum of a flat vector over ranks, differentiable as often as the loss is; every rank calls it in the same order."""

_REDUCED = (torch.bfloat16, torch.float16)


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

    def forward(self, inputs: Tensor, *, batch_statistics: bool, update: bool = False) -> Tensor:
        """Normalise by the batch's statistics (moving the running ones if `update`), or by the running ones."""
        return normalise([self], [inputs], batch_statistics=batch_statistics, update=update)[0]

    def extra_repr(self) -> str:
        """Shown by `print(module)`."""
        return f"{self.num_features}, momentum={self.momentum}, affine={self.weight is not None}"


def synchronise(network: nn.Module, reducer: MomentsReducer) -> None:
    """Make every `BatchNorm` of `network` normalise by the global batch; `reducer` sums over the ranks."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.moments_reducer = reducer


def normalise(
    modules: Sequence[BatchNorm], inputs: Sequence[Tensor], *, batch_statistics: bool, update: bool = False
) -> list[Tensor]:
    """Apply modules of equal depth to their inputs; with synchronised statistics, in one collective.

    `batch_statistics`: normalise by the batch, else by the running statistics; `update`: move the running ones.
    """
    reducer = modules[0].moments_reducer
    if batch_statistics and reducer is not None:
        return _normalise_globally(modules, inputs, reducer, update)
    return [_normalise_alone(module, x, batch_statistics, update) for module, x in zip(modules, inputs, strict=True)]


def _normalise_alone(module: BatchNorm, inputs: Tensor, batch_statistics: bool, update: bool) -> Tensor:
    mean: Tensor | None = module.running_mean
    var: Tensor | None = module.running_var
    if batch_statistics and not update:
        # The kernel keeps statistics in the dtype of the buffers it is given: throw-away ones under autocast.
        reduced = inputs.dtype in _REDUCED
        mean, var = (module.running_mean.clone(), module.running_var.clone()) if reduced else (None, None)
    return F.batch_norm(
        inputs, mean, var, module.weight, module.bias, batch_statistics, module.momentum, module.epsilon
    )


def _normalise_globally(
    modules: Sequence[BatchNorm], inputs: Sequence[Tensor], reducer: MomentsReducer, update: bool
) -> list[Tensor]:
    """Moments are taken about the running mean, the same on all ranks, so that E[x^2] - E[x]^2 cancels little."""
    wide = [x.to(torch.promote_types(x.dtype, torch.float32)) for x in inputs]
    counts = [x.numel() // module.num_features for module, x in zip(modules, inputs, strict=True)]
    moments = []
    for module, x, count in zip(modules, wide, counts, strict=True):
        var, mean = torch.var_mean(x, [dim for dim in range(x.dim()) if dim != 1], correction=0)
        offset = mean - module.running_mean
        moments += [offset * count, (var + offset.square()) * count, mean.new_full((1,), count)]
    sizes = [size for module in modules for size in (module.num_features, module.num_features, 1)]
    totals = torch.split(reducer(torch.cat(moments)), sizes)
    outputs = []
    for index, (module, x) in enumerate(zip(modules, wide, strict=True)):
        first, second, count = totals[3 * index : 3 * index + 3]
        offset = first / count
        var = second / count - offset.square()
        mean = offset + module.running_mean
        if update:
            _move_running(module, mean.detach(), var.detach(), count.detach())
        outputs.append(_standardise(module, x, mean, var).to(inputs[index].dtype))
    return outputs


def _standardise(module: BatchNorm, inputs: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    scale = torch.rsqrt(var + module.epsilon)
    if module.weight is not None:
        scale = scale * module.weight
    shift = -mean * scale if module.bias is None else module.bias - mean * scale
    shape = [1, -1, *[1] * (inputs.dim() - 2)]
    return torch.addcmul(shift.view(shape), inputs, scale.view(shape))


def _move_running(module: BatchNorm, mean: Tensor, var: Tensor, count: Tensor) -> None:
    module.running_mean.lerp_(mean, module.momentum)
    module.running_var.lerp_(var * (count / (count - 1)), module.momentum)
