"""metrics.parquet: one row per epoch, the same columns for every space.

Quality metrics that only some space defines are further columns at the end. Null means not defined for this space, or
not finite. Names, units and splits are those of `EpochMetrics`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel

from ray_darts.tasks.metrics import QUALITY_OF_EVERY_EPOCH, CellMetrics, EpochMetrics

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_darts.artifacts.descriptions import RunDescription


def metrics_table(run: RunDescription, epochs: Sequence[EpochMetrics]) -> pa.Table:
    """Rows in the order of epochs; every column carries its description as field metadata."""
    import pyarrow as pa

    if run.genotype is not None:
        return _training_table(run, epochs)
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
    named = dict.fromkeys(name for epoch in epochs for name in epoch.quality)
    more = [name for name in named if name not in QUALITY_OF_EVERY_EPOCH]
    return pa.Table.from_pylist(rows, schema=metrics_schema(more, has_order=run.order is not None))


def _training_table(run: RunDescription, epochs: Sequence[EpochMetrics]) -> pa.Table:
    """The curves of a training: the columns that have a meaning there, described as a training computes them."""
    import pyarrow as pa

    named = dict.fromkeys(name for epoch in epochs for name in epoch.quality if epoch.quality[name] is not None)
    fields = [
        pa.field("run", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        *(_described(name, kind, nullable) for name, (kind, nullable, _) in _TRAINING_COLUMNS.items()),
        *(_quality_column(name, _TRAINING_QUALITY.get(name, "named by the space")) for name in named),
    ]
    rows = [{"run": run.run, "seed": run.seed, **epoch.model_dump()} for epoch in epochs]
    columns = [field.name for field in fields]
    plain = [{name: row.get(name) for name in columns} for row in rows]
    return pa.Table.from_pylist(plain, schema=pa.schema(fields, metadata={"schema_version": "1"}))


_TRAINING_COLUMNS = {
    "epoch": ("int64", False, "from 0"),
    "step": ("int64", False, "steps done at the end of this epoch"),
    "train_loss": (
        "float64",
        True,
        "nats per image or token, mean over the epoch's steps in train mode, without "
        "label smoothing, class weights and auxiliary head",
    ),
    "validation_loss": ("float64", True, "nats per image or token, the held-out part at the epoch's end, in eval mode"),
    "weight_learning_rate": ("float64", True, "of this epoch"),
    "steps_per_s": ("float64", True, "steps per second of this epoch"),
    "peak_memory_bytes": ("int64", True, "rank 0, so far: its device's allocator on CUDA, its process elsewhere"),
}
"""{column: (Arrow type, may be null, description)}"""

_TRAINING_QUALITY = {
    "train_accuracy": "0..1, as train_loss",
    "validation_accuracy": "0..1, as validation_loss",
    "train_perplexity": "exp(train_loss)",
    "validation_perplexity": "exp(validation_loss)",
}


def _described(name: str, kind: str, nullable: bool) -> pa.Field:
    import pyarrow as pa

    description = _TRAINING_COLUMNS[name][2]
    return pa.field(name, pa.type_for_alias(kind), nullable, metadata={"description": description})


def metrics_schema(more_quality: Sequence[str] = (), *, has_order: bool = True) -> pa.Schema:
    """The columns of metrics.parquet; `more_quality` are metrics that not every space's table has."""
    import pyarrow as pa

    cell = pa.struct([pa.field("cell", pa.string()), *_columns(CellMetrics)])
    return pa.schema(
        [
            pa.field("run", pa.string(), nullable=False),
            pa.field("order", pa.string(), nullable=not has_order),
            pa.field("seed", pa.int64(), nullable=False),
            *_columns(EpochMetrics),
            pa.field("cells", pa.list_(cell)),
            *(_quality_column(name, "named by the space") for name in more_quality),
        ],
        metadata={"schema_version": "1"},
    )


def _columns(model: type[BaseModel]) -> Iterator[pa.Field]:
    """The columns of a model's fields; the quality metrics of a split follow its loss."""
    import pyarrow as pa

    types = {
        "float": pa.float64(),
        "int": pa.int64(),
        "str": pa.string(),
        "tuple[float | None, ...]": pa.list_(pa.float64()),
    }
    for name, field in model.model_fields.items():
        if name in ("cells", "quality"):
            continue
        annotation = field.annotation.__name__ if isinstance(field.annotation, type) else str(field.annotation)
        kind = types[annotation.removesuffix(" | None")]
        nullable = not isinstance(field.annotation, type)
        yield pa.field(name, kind, nullable, metadata={"description": field.description or ""})
        if name in ("train_loss", "validation_loss"):
            split = name.removesuffix("loss")
            for quality, description in QUALITY_OF_EVERY_EPOCH.items():
                if quality.startswith(split):
                    yield _quality_column(quality, description)


def _quality_column(name: str, description: str) -> pa.Field:
    import pyarrow as pa

    return pa.field(name, pa.float64(), metadata={"description": description})
