"""The loss on one batch as an objective: micro-batch by micro-batch, in the number formats of the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from ray_darts.data.batch import Batch
from ray_darts.spaces.supernet import LossOutput
from ray_darts.tasks.gradient import Objective
from ray_darts.tasks.precision import PrecisionSettings, forward_autocast, matmul_precision


class PassSettings(PrecisionSettings, Protocol):
    """Settings that say into how many micro-batches a pass is split."""

    @property
    def accumulate(self) -> int: ...


def batch_objective(
    settings: PassSettings,
    batch: Batch,
    carry: Tensor | None,
    device: torch.device,
    loss_of: Callable[[Batch, Tensor | None, bool], LossOutput],
    carries: list[Tensor] | None = None,
) -> Objective:
    """The mean loss on `batch`, weighted by its share; extras: that loss, then the sums of `LossOutput`.

    `loss_of(micro_batch, its carry, full_precision)`; each micro-batch's new carry is appended to `carries`.
    """

    def evaluate(full: bool) -> Iterator[tuple[Tensor, Tensor]]:
        start = 0
        for micro in batch.split(settings.accumulate):
            part = None if carry is None else carry[start : start + micro.num_samples]
            start += micro.num_samples
            with matmul_precision(settings, full=full):
                with forward_autocast(settings, device, full=full):
                    output = loss_of(micro, part, full)
                if carries is not None and output.carry is not None:
                    carries.append(output.carry)
                loss = output.loss * micro.share
                yield loss, torch.cat([loss.detach().reshape(1), output.sums.to(loss.dtype)])

    return evaluate
