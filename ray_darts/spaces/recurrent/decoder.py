"""The decoder's loss over a whole sequence, keeping nothing of the size of the logits. Knows no cell and no time.

Suffixes: R rows (tokens), H hidden units, V words.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.spaces import tangents
from ray_darts.spaces.planned_device import is_for_cpu
from ray_darts.spaces.recurrent.operations import needs_ordinary_operators
from ray_darts.spaces.second_derivatives import differentiable_gradients

_CACHED_ELEMENTS = 2**21
"""Logits processed at a time on a CPU, so that they fit the cache."""


def decoder_loss(rows_RH: Tensor, embedding_VH: Tensor, bias_V: Tensor, targets_R: Tensor) -> Tensor:
    """Sum over rows of the cross entropy (nats) of softmax(rows embedding' + bias) at `targets_R`.

    First derivatives are computed with the loss, those in the inputs that require a gradient, while the logits are in
    the cache; autograd computes second derivatives from a second forward pass.
    """
    if needs_ordinary_operators():
        return _plain_decoder_loss(rows_RH, embedding_VH, bias_V, targets_R)
    if torch.is_grad_enabled():
        loss: Tensor = _DecoderLoss.apply(rows_RH, embedding_VH, bias_V, targets_R)
        return loss
    chunks = _log_probabilities(rows_RH, embedding_VH, bias_V, targets_R)
    return -_total(rows_RH, [scores.gather(1, targets).sum() for _, targets, scores in chunks])


def _plain_decoder_loss(rows_RH: Tensor, embedding_VH: Tensor, bias_V: Tensor, targets_R: Tensor) -> Tensor:
    logits = torch.addmm(bias_V.unsqueeze(0), rows_RH, embedding_VH.t())
    return tangents.cross_entropy(logits, targets_R, "sum")


def _log_probabilities(
    rows_RH: Tensor, embedding_VH: Tensor, bias_V: Tensor, targets_R: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """For each chunk of rows: which rows, their targets [rows, 1] and log probabilities [rows, V]."""
    size = max(1, _CACHED_ELEMENTS // len(bias_V) if is_for_cpu(rows_RH) else len(rows_RH))
    for start in range(0, len(rows_RH), size):
        rows = slice(start, start + size)
        logits = torch.addmm(bias_V.unsqueeze(0), rows_RH[rows], embedding_VH.t()).to(rows_RH.dtype)
        yield rows, targets_R[rows].unsqueeze(1), torch.log_softmax(logits, 1, out=logits)


def _total(like: Tensor, parts: list[Tensor]) -> Tensor:
    return torch.stack([like.new_zeros(()), *parts]).sum()


class _DecoderLoss(torch.autograd.Function):
    """Keeps the gradients, of the sizes of the inputs; autograd would keep log probabilities of all rows."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows_RH: Tensor, embedding_VH: Tensor, bias_V: Tensor, targets_R: Tensor) -> Tensor:
        inputs = rows_RH, embedding_VH, bias_V
        gradients = [
            torch.zeros_like(tensor) if needed else None
            for tensor, needed in zip(inputs, ctx.needs_input_grad, strict=False)  # type: ignore[attr-defined]
        ]
        into_rows, into_embedding, into_bias = gradients
        parts = []
        for rows, targets, scores in _log_probabilities(*inputs, targets_R):
            parts.append(scores.gather(1, targets).sum())
            # The derivative of the loss in the logits.
            excess = scores.exp_().scatter_add_(1, targets, scores.new_full(targets.shape, -1.0))
            if into_rows is not None:
                into_rows[rows] = torch.mm(excess, embedding_VH)
            if into_embedding is not None:
                torch.addmm(into_embedding, excess.t(), rows_RH[rows], out=into_embedding)
            if into_bias is not None:
                into_bias.add_(excess.sum(0))
        ctx.save_for_backward(*inputs, targets_R, into_rows)  # type: ignore[arg-type]
        ctx.of_weights = into_embedding, into_bias  # type: ignore[attr-defined]  # no activations: of any batch's size
        return -_total(rows_RH, parts)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, embedding, bias, targets, into_rows = ctx.saved_tensors  # type: ignore[attr-defined]
        if torch.is_grad_enabled():
            function = partial(_plain_decoder_loss, targets_R=targets)
            return *differentiable_gradients(function, [rows, embedding, bias], gradient), None
        gradients = into_rows, *ctx.of_weights  # type: ignore[attr-defined]
        return *(None if found is None else found * gradient for found in gradients), None
