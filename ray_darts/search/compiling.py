"""Compiles the passes of a step that `operation.compile` names: each pass and its backward pass become one graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ray_darts.config import OperationSettings
from ray_darts.data.batch import Batch
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Pass, Supernet

PassName = Literal["training", "validation", "alpha_training"]
"""The gradients of a step: of the training loss in the weights; of the validation loss; of the training loss in the
alphas, at weights moved by the finite difference."""

Loss = Callable[[Batch, Tensor | None, Pass, MixingWeights], LossOutput]


def compiled_losses(operation: OperationSettings, supernet: Supernet) -> dict[PassName, Loss]:
    """The supernet's loss for each pass that `operation.compile` names.

    torch compiles at the first call, and raises its own errors when a pass cannot be one graph.
    """
    loss = supernet.loss
    return {
        name: torch.compile(loss, fullgraph=True, dynamic=False, backend=operation.compile_backend)
        for name in operation.compile
    }
