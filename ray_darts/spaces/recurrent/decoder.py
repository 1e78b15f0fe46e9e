"""The decoder's loss over a whole sequence, keeping one tensor of the size of the logits. Knows no cell and no time.

Suffixes: R rows (tokens), H hidden units, V words.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.spaces import tangents
from ray_darts.spaces.planned_device import is_for_cpu
from ray_darts.spaces.recurrent.operations import wants_gradient

_CACHED_ELEMENTS = 2**21
"""Logits processed at a time on a CPU, so that they fit the cache."""


def decoder_loss(rows_RH: Tensor, embedding_VH: Tensor, bias_V: Tensor, targets_R: Tensor) -> Tensor:
    """Sum over rows of the cross entropy (nats) of softmax(rows embedding' + bias) at `targets_R`.

    First derivatives are explicit; autograd computes second derivatives.
    """
    weight_HV, bias_1V = embedding_VH.t(), bias_V.unsqueeze(0)
    if not torch.is_grad_enabled():
        return _totals(rows_RH, weight_HV, bias_1V, targets_R, None)
    if tangents.are_carried():
        return _plain_decoder_loss(rows_RH, weight_HV, bias_1V, targets_R)
    loss: Tensor = _DecoderLoss.apply(rows_RH, weight_HV, bias_1V, targets_R)
    return loss


def _plain_decoder_loss(rows_RH: Tensor, weight_HV: Tensor, bias_1V: Tensor, targets_R: Tensor) -> Tensor:
    logits = torch.addmm(bias_1V, rows_RH, weight_HV)
    return tangents.cross_entropy(logits, targets_R, "sum")


def _totals(rows_RH: Tensor, weight_HV: Tensor, bias_1V: Tensor, targets_R: Tensor, excess_RV: Tensor | None) -> Tensor:
    """The loss; writes its derivative in the logits (softmax, minus one at the target) to `excess_RV`."""
    chunk = max(1, _CACHED_ELEMENTS // bias_1V.shape[1]) if is_for_cpu(rows_RH) else max(1, len(rows_RH))
    parts = [rows_RH.new_zeros(())]
    for start in range(0, len(rows_RH), chunk):
        rows, targets = rows_RH[start : start + chunk], targets_R[start : start + chunk].unsqueeze(1)
        logits = torch.addmm(bias_1V, rows, weight_HV).to(rows_RH.dtype)
        chosen = logits.gather(1, targets)
        largest = logits.amax(1, keepdim=True)
        into = torch.empty_like(logits) if excess_RV is None else excess_RV[start : start + chunk]
        softmax = torch.softmax(logits, dim=1, out=into)
        # The largest probability is at least 1 / V, so its logarithm is safe where the target's may not be.
        normaliser = largest - softmax.amax(1, keepdim=True).log()
        parts.append((normaliser - chosen).sum())
    if excess_RV is not None:
        excess_RV.scatter_add_(1, targets_R.unsqueeze(1), excess_RV.new_full((len(targets_R), 1), -1.0))
    return torch.stack(parts).sum()


class _DecoderLoss(torch.autograd.Function):
    """Keeps only the derivative in the logits for the backward pass; autograd would also keep logits and logarithms."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows_RH: Tensor, weight_HV: Tensor, bias_1V: Tensor, targets_R: Tensor) -> Tensor:
        excess = rows_RH.new_empty(len(rows_RH), bias_1V.shape[1])
        loss = _totals(rows_RH, weight_HV, bias_1V, targets_R, excess)
        ctx.save_for_backward(rows_RH, weight_HV, bias_1V, targets_R, excess)
        return loss

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, bias, targets, excess = ctx.saved_tensors  # type: ignore[attr-defined]
        if torch.is_grad_enabled():
            inputs = rows.view_as(rows), weight.view_as(weight), bias.view_as(bias)
            loss = _plain_decoder_loss(*inputs, targets)
            return *torch.autograd.grad(loss, inputs, gradient, create_graph=True), None
        into_rows = torch.mm(excess, weight.t()) * gradient if wants_gradient(ctx, 0) else None
        into_weight = torch.mm(rows.t(), excess) * gradient if wants_gradient(ctx, 1) else None
        into_bias = excess.sum(0, keepdim=True) * gradient if wants_gradient(ctx, 2) else None
        return into_rows, into_weight, into_bias, None
