"""The metrics that a task reports at the end of each epoch, as one typed object.

Losses and rates have fixed names; the space names quality metrics (accuracy, perplexity). Imports only pydantic, so
that the loop, the store and the reports can share it. Knows no tensors and no files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

if TYPE_CHECKING:
    from ray_darts.genotype.decode import Decoding

Scalar = float | int | str | None

# always written, null if the space does not define them; other quality metrics are written in further columns
QUALITY_OF_EVERY_EPOCH: Mapping[str, str] = {
    "train_accuracy": "weight half, 0..1, as train_loss; images only",
    "train_perplexity": "exp(train_loss); text only",
    "validation_accuracy": "0..1, as validation_loss; images only",
    "validation_perplexity": "exp(validation_loss); text only",
}
_QUALITY_NAME = re.compile(r"(train|validation)_[a-z][a-z0-9_]*")


class _Report(BaseModel):
    """Frozen facts; an unknown field is an error, and NaN or infinity becomes None."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _finite(cls, value: object, info: ValidationInfo) -> object:
        if info.mode == "json":  # JSON has no NaN; a list from it is a tuple here
            return tuple(value) if isinstance(value, list) else value
        return _finite_or_none(value)


class CellMetrics(_Report):
    """One kind of cell at an epoch's end, decoded from its alphas; of other methods than the default one, "softmax" in
    the stored descriptions means the decode rule's probabilities."""

    entropy: float = Field(description="of softmax(alpha), nats, mean over edges; ln(operations) when undecided")
    skips: int = Field(description="skip connections among the kept edges")
    parameter_free: int = Field(description="kept edges whose operation has no weights")
    margins: tuple[float | None, ...] = Field(description="per kept edge: its softmax weight minus its rival's")


def cell_metrics(seen: Decoding) -> dict[str, CellMetrics]:
    """{cell: its metrics} of the decoded alphas."""
    return {
        cell: CellMetrics(
            entropy=entropy,
            skips=seen.skips[cell],
            parameter_free=seen.parameter_free[cell],
            margins=seen.margins[cell],
        )
        for cell, entropy in seen.entropy.items()
    }


class EpochMetrics(_Report):
    """One epoch. Losses are means per sample (images) or per token (text), in nats.

    The descriptions are stored in metrics.parquet, whose bytes `verify` computes again: do not reword them.

    `quality` maps names like `train_accuracy` (`train_` or `validation_`, then the space's own name) to values. As
    JSON, and in `model_dump`, its entries lie beside the other fields.
    """

    epoch: int = Field(description="from 0")
    step: int = Field(description="search steps done at the end of this epoch")
    train_loss: float | None = Field(description="weight half, mean over the epoch's weight steps")
    validation_loss: float | None = Field(
        description="whole alpha half, weights at the epoch's end; running statistics (images), batch (text)"
    )
    quality: Mapping[str, float | None] = Field(default_factory=dict)
    alpha_step_loss: float | None = Field(None, description="alpha half, mean over the epoch's alpha steps")
    weight_learning_rate: float | None = Field(None, description="of the weight optimiser in this epoch")
    steps_per_s: float | None = Field(None, description="search steps per second of this epoch")
    peak_memory_bytes: int | None = Field(
        None, description="rank 0, so far: its device's allocator on CUDA, its process elsewhere"
    )
    cells: dict[str, CellMetrics] = Field(default_factory=dict)
    genotype: str | None = Field(None, description="JSON, decoded from the alphas at the epoch's end")
    warning: str | None = Field(None, description="what the watch said of a collapsing cell")

    @model_validator(mode="before")
    @classmethod
    def _gather_quality(cls, given: object, info: ValidationInfo) -> object:
        """Accept quality metrics beside the other fields, as JSON has them. Raises: ValueError for another name."""
        if not isinstance(given, Mapping):
            return given
        if "quality" in given and info.mode == "json":
            raise ValueError("quality: an unknown field")
        fields = {name: value for name, value in given.items() if name in cls.model_fields}
        beside = {name: value for name, value in given.items() if name not in cls.model_fields}
        quality = {**dict(fields.get("quality", {})), **beside}
        unknown = sorted(str(name) for name in quality if not _is_quality_name(name, cls))
        if unknown:
            raise ValueError(
                f"unknown {', '.join(unknown)}; quality metrics are named train_… or validation_… in lower case"
            )
        return {**fields, "quality": {**dict.fromkeys(QUALITY_OF_EVERY_EPOCH), **quality}}

    @model_serializer(mode="wrap")
    def _with_quality_beside(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        plain: dict[str, object] = handler(self)
        plain.pop("quality", None)
        return {**plain, **self.quality}

    def scalars(self) -> dict[str, Scalar]:
        """The values that a status shows: top-level ones by name, a cell's as `<cell>.entropy` and so on."""
        plain = self.model_dump(exclude={"cells", "genotype"})
        flat: dict[str, Scalar] = {name: value for name, value in plain.items() if value is not None}
        for name, cell in self.cells.items():
            flat[f"{name}.entropy"] = cell.entropy
            flat[f"{name}.skips"] = cell.skips
            flat[f"{name}.parameter_free"] = cell.parameter_free
        return flat


def warning_of(scalars: Mapping[str, Scalar]) -> str | None:
    """What an epoch's `scalars()` warn of; it is true after that epoch."""
    warning = scalars.get("warning")
    return warning if isinstance(warning, str) and warning else None


def _is_quality_name(name: object, model: type[EpochMetrics]) -> bool:
    return isinstance(name, str) and name not in model.model_fields and _QUALITY_NAME.fullmatch(name) is not None


def _finite_or_none(value: object) -> object:
    """Convert floats of any kind to Python's, non-finite ones to None; also inside sequences and mappings."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return tuple(_finite_or_none(inner) for inner in value)
    if isinstance(value, Mapping):
        return {name: _finite_or_none(inner) for name, inner in value.items()}
    return value
