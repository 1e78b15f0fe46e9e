"""Passes in which tensors carry tangents: their derivatives along one direction, computed beside the values.

PyTorch's dual tensors (torch.autograd.forward_ad). The switch that pauses them has no public name; read in torch 2.9
and 2.14. Knows no network.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional

_carried: ContextVar[bool] = ContextVar("carried", default=False)


def are_carried() -> bool:
    """Whether the current pass may hold tensors with tangents; never under a compiler."""
    return not torch.compiler.is_compiling() and _carried.get()


@contextmanager
def carried() -> Iterator[None]:
    """Inside, tensors can carry tangents; at the end all of them are gone. Not reentrant."""
    with forward_ad.dual_level(), _switched(on=True):
        yield


@contextmanager
def paused() -> Iterator[None]:
    """Inside, what is computed gets no tangents: a backward pass through values and tangents would double its work."""
    with _switched(on=False):
        yield


@contextmanager
def resumed() -> Iterator[None]:
    """Inside, within `paused`, tangents are computed again: where a backward pass repeats a part of the forward one."""
    with _switched(on=True):
        yield


def moving(tensor: Tensor, tangent: Tensor) -> Tensor:
    """A view of `tensor` that carries `tangent`, of its shape, until the end of `carried`."""
    with warnings.catch_warnings():
        # The first call compiles formulas that are not used here, by a function that newer releases call deprecated.
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
        dual: Tensor = forward_ad.make_dual(tensor, tangent)  # type: ignore[no-untyped-call]
    return dual


def give_(tensor: Tensor, tangent: Tensor) -> None:
    """As `moving`, `tensor` itself; its values stay."""
    with torch.no_grad():
        tensor.copy_(moving(tensor.detach(), tangent))


def of(tensor: Tensor) -> Tensor | None:
    """The tangent of `tensor`, differentiable as a result of the pass; None for 0."""
    tangent: Tensor | None = forward_ad.unpack_dual(tensor).tangent  # type: ignore[no-untyped-call]
    return tangent


def without(tensor: Tensor) -> Tensor:
    """`tensor` without its tangent."""
    value: Tensor = forward_ad.unpack_dual(tensor).primal  # type: ignore[no-untyped-call]
    return value


def cross_entropy(scores: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """`functional.cross_entropy` of [N, classes]; where tangents are carried, by operators whose tangents can be
    differentiated: PyTorch's formula for a softmax works in place (logsumexp_jvp, read in torch 2.14)."""
    if not are_carried():
        return functional.cross_entropy(scores, targets, reduction=reduction)
    shifted = scores - scores.detach().amax(1, keepdim=True)
    logarithms = shifted - shifted.exp().sum(1, keepdim=True).log()
    return functional.nll_loss(logarithms, targets, reduction=reduction)


@contextmanager
def _switched(*, on: bool) -> Iterator[None]:
    before = _carried.set(on)
    try:
        with forward_ad._set_fwd_grad_enabled(on):
            yield
    finally:
        _carried.reset(before)
