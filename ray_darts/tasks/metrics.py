"""stand-in until merged"""

from __future__ import annotations

from pydantic import BaseModel


class CellMetrics(BaseModel):
    entropy: float
    skips: int
    parameter_free: int
    margins: tuple[float | None, ...]


class EpochMetrics(BaseModel):
    epoch: int
    step: int
    train_loss: float | None
    validation_loss: float | None
    quality: dict[str, float | None]
    alpha_step_loss: float | None = None
    weight_learning_rate: float | None = None
    steps_per_s: float | None = None
    peak_memory_bytes: int | None = None
    cells: dict[str, CellMetrics] = {}
    genotype: str | None = None
    warning: str | None = None
