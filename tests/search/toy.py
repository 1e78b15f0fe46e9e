"""The closed form of the paper's figure 2, as losses over flat vectors of scalars."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ray_darts.tasks.flat import FlatVector
from ray_darts.tasks.gradient import Objective


def objective(loss: Callable[[], Tensor]) -> Objective:
    """`loss` as an Objective of one micro-batch, without extras."""

    def evaluate(full_precision: bool) -> Iterator[tuple[Tensor, Tensor]]:
        yield loss(), torch.zeros(0, dtype=torch.float64)

    return evaluate


def no_ranks(vector: Tensor) -> None:
    """The sum over one rank."""


def scalars(**values: float) -> FlatVector:
    """Named float64 scalars that require gradients, as one packed vector."""
    named = {name: torch.tensor([value], dtype=torch.float64, requires_grad=True) for name, value in values.items()}
    return FlatVector(named, aligned=False)
