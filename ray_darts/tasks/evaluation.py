"""Scores a network on all batches of an evaluation, over all ranks. Knows no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ray_darts.data.batch import Batch
from ray_darts.spaces.supernet import LossOutput
from ray_darts.tasks.collectives import Collectives


def total_sums(
    batches: Iterable[Batch],
    evaluate: Callable[[Batch, Tensor | None, int], LossOutput],
    initial_carry: Callable[[int, torch.device], Tensor | None],
    num_sums: int,
    collectives: Collectives,
    device: torch.device,
) -> list[float]:
    """The sums [num_sums] of `evaluate(batch, carry, index)` over all batches and ranks, without gradients.

    Every rank calls with as many batches. The carry is that of `initial_carry` before a batch that starts an epoch.
    """
    totals = torch.zeros(num_sums, dtype=torch.float64, device=device)
    carry = None
    with torch.no_grad():
        for index, batch in enumerate(batches):
            if batch.starts_epoch:
                carry = initial_carry(batch.num_samples, device)
            output = evaluate(batch, carry, index)
            carry = output.carry
            totals += output.sums
    collectives.sum_(totals)
    sums: list[float] = totals.tolist()
    return sums
