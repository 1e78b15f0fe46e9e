"""The number formats of a pass: parameters stay float32 (or float64); autocast and TF32 apply only inside a pass.

At radius 0.01 the finite difference moves a weight by about 6e-6, which rounding to bfloat16 or TF32 removes. So both
of its passes use `full`: float32 or better.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch


class PrecisionSettings(Protocol):
    """Settings with a `precision`."""

    @property
    def precision(self) -> str: ...


def parameter_dtype(settings: PrecisionSettings) -> torch.dtype:
    """The dtype of weights, alphas, statistics and inputs."""
    return torch.float64 if settings.precision == "float64" else torch.float32


def forward_autocast(
    settings: PrecisionSettings, device: torch.device, *, full: bool = False
) -> AbstractContextManager[object]:
    """Autocast a forward pass to bfloat16 if the precision is bfloat16."""
    if settings.precision == "bfloat16" and not full:
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


@contextmanager
def matmul_precision(settings: PrecisionSettings, *, full: bool = False) -> Iterator[None]:
    """Allow TF32 for a forward pass and its backward pass if the precision is tf32; otherwise forbid it."""
    tf32 = settings.precision == "tf32" and not full
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
