"""The device that a computation is meant for: a tensor's own, or, where it is counted on the meta device, a stated one.

Some functions have a formulation of their own for CPUs; tensors of the meta device carry no data and no device to
choose by. Knows no formulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_planned: ContextVar[str | None] = ContextVar("planned", default=None)


def is_for_cpu(tensor: Tensor) -> bool:
    """Whether to choose the formulation for CPUs."""
    kind = tensor.device.type
    return kind == "cpu" or (kind == "meta" and _planned.get() == "cpu")


def uses_plain_operators(tensor: Tensor) -> bool:
    """Whether PyTorch's own operators are to be used in place of the formulation for CPUs: also under a compiler and
    under autocast, which know no other."""
    return torch.compiler.is_compiling() or not is_for_cpu(tensor) or torch.is_autocast_enabled("cpu")


@contextmanager
def planned_for(device_kind: str) -> Iterator[None]:
    """Tensors of the meta device stand for tensors of `device_kind` ("cpu" or "cuda") in the block."""
    before = _planned.set(device_kind)
    try:
        yield
    finally:
        _planned.reset(before)
