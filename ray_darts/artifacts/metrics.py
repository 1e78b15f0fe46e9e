"""What is known of each epoch, and its Parquet form: one row per epoch, the same columns for every space.

Names, units and splits are those of `EpochMetrics`; null means not defined for this space, or not finite.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from ray_darts.artifacts.documents import Facts

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_darts.artifacts.records import RunDescription

Scalar = float | int | str | None


class CellMetrics(Facts):
    """One kind of cell at an epoch's end, decoded from its alphas."""

    entropy: float = Field(description="of softmax(alpha), nats, mean over edges; ln(operations) when undecided")
    skips: int = Field(description="skip connections among the kept edges")
    parameter_free: int = Field(description="kept edges whose operation has no weights")
    margins: tuple[float | None, ...] = Field(description="per kept edge: its softmax weight minus its rival's")


class EpochMetrics(Facts):
    """One epoch. Losses are means per sample (images) or per token (text), in nats."""

    epoch: int = Field(description="from 0")
    step: int = Field(description="search steps done at the end of this epoch")
    train_loss: float | None = Field(description="weight half, mean over the epoch's weight steps")
    train_accuracy: float | None = Field(None, description="weight half, 0..1, as train_loss; images only")
    train_perplexity: float | None = Field(None, description="exp(train_loss); text only")
    validation_loss: float | None = Field(
        description="whole alpha half, weights at the epoch's end; running statistics (images), batch (text)"
    )
    validation_accuracy: float | None = Field(None, description="0..1, as validation_loss; images only")
    validation_perplexity: float | None = Field(None, description="exp(validation_loss); text only")
    alpha_step_loss: float | None = Field(None, description="alpha half, mean over the epoch's alpha steps")
    weight_learning_rate: float | None = Field(None, description="of the weight optimiser in this epoch")
    steps_per_s: float | None = Field(None, description="search steps per second of this epoch")
    peak_memory_bytes: int | None = Field(
        None, description="rank 0, so far: its device's allocator on CUDA, its process elsewhere"
    )
    cells: dict[str, CellMetrics] = Field(default_factory=dict)
    genotype: str | None = Field(None, description="JSON, decoded from the alphas at the epoch's end")
    warning: str | None = Field(None, description="what the watch said of a collapsing cell")

    def scalars(self) -> dict[str, Scalar]:
        """What a status shows: top-level facts by name, a cell's as `<cell>.entropy` and so on."""
        flat: dict[str, Scalar] = self.model_dump(exclude={"cells", "genotype"}, exclude_none=True)
        for name, cell in self.cells.items():
            flat[f"{name}.entropy"] = cell.entropy
            flat[f"{name}.skips"] = cell.skips
            flat[f"{name}.parameter_free"] = cell.parameter_free
        return flat


def read_epoch(metrics: Mapping[str, object]) -> EpochMetrics:
    """Take an epoch's record as the loop gives it; NaN and infinity become null. Raises: ValueError."""
    try:
        return EpochMetrics.model_validate(_plain(metrics), strict=False)
    except ValidationError as error:
        raise ValueError(f"an epoch's record does not fit EpochMetrics: {error}") from error


def _plain(value: object) -> object:
    if isinstance(value, bool | int):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def metrics_table(run: RunDescription, epochs: Sequence[EpochMetrics]) -> pa.Table:
    """Rows in the order of epochs; every column carries its description as field metadata."""
    import pyarrow as pa

    rows = [
        {
            "run": run.run,
            "order": run.order,
            "seed": run.seed,
            **epoch.model_dump(exclude={"cells"}),
            "cells": [{"cell": name, **cell.model_dump()} for name, cell in epoch.cells.items()],
        }
        for epoch in epochs
    ]
    return pa.Table.from_pylist(rows, schema=metrics_schema())


def metrics_schema() -> pa.Schema:
    """The columns of metrics.parquet."""
    import pyarrow as pa

    cell = pa.struct([pa.field("cell", pa.string()), *_columns(CellMetrics)])
    return pa.schema(
        [
            pa.field("run", pa.string(), nullable=False),
            pa.field("order", pa.string(), nullable=False),
            pa.field("seed", pa.int64(), nullable=False),
            *_columns(EpochMetrics),
            pa.field("cells", pa.list_(cell)),
        ],
        metadata={"schema_version": "1"},
    )


def _columns(model: type[Facts]) -> list[pa.Field]:
    import pyarrow as pa

    types = {
        "float": pa.float64(),
        "int": pa.int64(),
        "str": pa.string(),
        "tuple[float | None, ...]": pa.list_(pa.float64()),
    }
    columns = []
    for name, field in model.model_fields.items():
        if name == "cells":
            continue
        annotation = getattr(field.annotation, "__name__", None) if isinstance(field.annotation, type) else None
        told = (annotation or str(field.annotation)).removesuffix(" | None")
        nullable = not isinstance(field.annotation, type)
        columns.append(pa.field(name, types[told], nullable, metadata={"description": field.description or ""}))
    return columns
