"""Batch norm with a stated policy: the shard's statistics, or the global batch's through an injected sum over ranks.

Running statistics move only where a pass says so. Operations at equal depth are normalised together, so that under
synchronisation they share one collective. Knows no ranks: `moments_reducer` sums a vector over whoever there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MomentsReducer = Callable[[Tensor], Tensor]
"""Sums a 1-d tensor over ranks; differentiable as often as the search needs (twice for the exact Hessian)."""


class BatchNorm(nn.Module):
    """Normalises dim 1 of [N, C, ...]; `affine` adds a learned scale and shift.

    `moments_reducer` is None for statistics of the own shard; see `synchronise`.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, *, momentum: float = 0.1, affine: bool = False, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.momentum, self.epsilon = num_features, momentum, epsilon
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.moments_reducer: MomentsReducer | None = None

    def forward(self, inputs: Tensor, *, batch_statistics: bool, update: bool = False) -> Tensor:
        """Normalise by the batch's statistics, or by the running ones; `update` moves the running ones."""
        return normalise([self], [inputs], batch_statistics=batch_statistics, update=update)[0]


def synchronise(network: nn.Module, moments_reducer: MomentsReducer) -> None:
    """Make every BatchNorm inside `network` use the statistics of the global batch."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.moments_reducer = moments_reducer


def normalise(
    modules: Sequence[BatchNorm], inputs: Sequence[Tensor], *, batch_statistics: bool, update: bool = False
) -> list[Tensor]:
    """Normalise each input by its module; synchronised modules share one collective.

    `batch_statistics` False: running statistics, no update (evaluation).
    """
    reducer = modules[0].moments_reducer
    if reducer is None or not batch_statistics:
        return [_local(m, x, batch_statistics, update) for m, x in zip(modules, inputs, strict=True)]
    return _synchronised(modules, inputs, reducer, update)


def _local(module: BatchNorm, inputs: Tensor, batch_statistics: bool, update: bool) -> Tensor:
    keep = update or not batch_statistics
    return F.batch_norm(
        inputs,
        module.running_mean if keep else None,
        module.running_var if keep else None,
        module.weight,
        module.bias,
        batch_statistics,
        module.momentum,
        module.epsilon,
    )


def _synchronised(
    modules: Sequence[BatchNorm], inputs: Sequence[Tensor], reducer: MomentsReducer, update: bool
) -> list[Tensor]:
    """One sum over ranks of [sum x, sum x^2] per channel and the counts, in float32 or better, then plain algebra."""
    wide = [x if x.dtype in (torch.float32, torch.float64) else x.float() for x in inputs]
    pieces: list[Tensor] = []
    for x in wide:
        over = [0, *range(2, x.dim())]
        pieces += [x.sum(over), x.square().sum(over), x.new_full((1,), x.numel() / x.shape[1])]
    moments = reducer(torch.cat(pieces)).split([size for m in modules for size in (m.num_features, m.num_features, 1)])
    outputs: list[Tensor] = []
    for number, (module, x, original) in enumerate(zip(modules, wide, inputs, strict=True)):
        total, squares, count = moments[3 * number : 3 * number + 3]
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        shape = [1, -1, *[1] * (x.dim() - 2)]
        normal = (x - mean.view(shape)) * torch.rsqrt(variance + module.epsilon).view(shape)
        if module.weight is not None and module.bias is not None:
            normal = normal * module.weight.view(shape) + module.bias.view(shape)
        if update:
            unbiased = variance.detach() * (count / (count - 1)).detach()
            module.running_mean.lerp_(mean.detach(), module.momentum)
            module.running_var.lerp_(unbiased, module.momentum)
        outputs.append(normal.to(original.dtype))
    return outputs
