"""Finds the first tensor that is not finite, after a step has failed; healthy steps do no extra work for it.

The failed step changed no state, so repeating its passes reproduces the failure. Every rank checks its own shard; all
ranks run the same passes, so the collectives of synchronised batch norm still match.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ray_darts.config import SearchConfig
from ray_darts.data.batch import Batch
from ray_darts.protocols.method import Progress
from ray_darts.search.step import BilevelStep, Half
from ray_darts.spaces.supernet import Pass
from ray_darts.tasks.diagnosis import first_found, loss_findings
from ray_darts.tasks.flat import FlatVector


def first_non_finite(step: BilevelStep, train: Batch, validation: Batch, progress: Progress) -> dict[str, object]:
    """Repeat the passes of the step at `progress`; restores running statistics.

    Returns: {"rank", "tensor"}, the same on every rank.
    """
    own = _own_findings(step, train, validation, progress)
    otherwise = "alpha gradient (virtual step)" if step.order == "second" else "alphas"
    return first_found(own, step.collectives, step.device, otherwise)


def likely_cause(tensor: str, config: SearchConfig) -> str:
    """What makes this tensor non-finite as a rule, with the settings to change."""
    if tensor.endswith("input"):
        return "the data hold values that are not finite: check data.path"
    weights, alphas = (
        f"weights.learning_rate ({config.weights.learning_rate:g})",
        f"alphas.learning_rate ({config.alphas.learning_rate:g})",
    )
    return f"as a rule {weights} or {alphas} is too high, or the data are not normalised"


def _own_findings(step: BilevelStep, train: Batch, validation: Batch, progress: Progress) -> dict[str, bool]:
    """{tensor name: is not finite}, in the same order on every rank."""
    findings: dict[str, bool] = {}
    statistics = step.statistics.vector.clone()
    passes: tuple[tuple[Half, Batch, Tensor | None, Pass, FlatVector, str], ...] = (
        ("validation", validation, step.validation_carry, Pass.ALPHA, step.alphas, "alphas."),
        ("training", train, step.train_carry, Pass.WEIGHT, step.weights, ""),
    )
    for name, batch, carry, purpose, part, prefix in passes:
        findings[f"{name} input"] = batch.inputs.is_floating_point() and not bool(torch.isfinite(batch.inputs).all())
        disturbance = step.disturbance(batch, purpose, progress) if name == "training" else None
        objective = step.objective(name, batch, carry, purpose, progress, disturbance=disturbance)
        findings |= loss_findings(objective, part, 1 + len(step.supernet.sum_names), name, prefix)
    step.statistics.vector.copy_(statistics)
    for moved, vector in (("weights", step.weights.vector), ("alphas", step.alphas.vector)):
        findings[moved] = not bool(torch.isfinite(vector).all())
    return findings
