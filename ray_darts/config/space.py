"""Which search space, and its sizes. Each knows its layout; supernets are built from these in `spaces`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ray_darts.config.base import Settings
from ray_darts.genotype.layout import (
    CONVOLUTIONAL_OPERATIONS,
    RECURRENT_OPERATIONS,
    SpaceLayout,
    convolutional_layout,
    recurrent_layout,
)


def _check_operations(operations: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in operations if name not in known]
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; known are {', '.join(known)}")
    if len(set(operations)) != len(operations):
        raise ValueError("an operation is named twice")
    if len([name for name in operations if name != "none"]) < 2:
        raise ValueError("at least two operations besides none are needed for a search")
    return operations


class ConvolutionalSpace(Settings):
    """Image cells (arXiv:1806.09055, section 3.1); input size, channels and classes come with the data."""

    kind: Literal["convolutional"] = "convolutional"
    layers: int = Field(8, ge=3, description="cells in the supernet; with fewer than 3 one kind of cell is absent")
    channels: int = Field(16, ge=2, multiple_of=2, description="initial channels C; the CIFAR stem makes 3C")
    nodes: int = Field(4, ge=1, le=12, description="intermediate nodes per cell")
    stem: Literal["cifar", "imagenet"] = "cifar"
    operations: tuple[str, ...] = CONVOLUTIONAL_OPERATIONS
    batch_norm_momentum: float = Field(0.1, gt=0, le=1)

    @field_validator("operations")
    @classmethod
    def _known_operations(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        return _check_operations(operations, CONVOLUTIONAL_OPERATIONS)

    def layout(self) -> SpaceLayout:
        """Cells, edges and operations of this space."""
        return convolutional_layout(self.nodes, self.operations)


class RecurrentSpace(Settings):
    """Text cells (arXiv:1806.09055, section 3.2) and the language model around them; dropouts are probabilities."""

    kind: Literal["recurrent"] = "recurrent"
    nodes: int = Field(8, ge=1, le=24)
    operations: tuple[str, ...] = RECURRENT_OPERATIONS
    embedding: int = Field(300, ge=1)
    hidden: int = Field(300, ge=1)
    dropout_output: float = Field(0.75, ge=0, lt=1)
    dropout_hidden: float = Field(0.25, ge=0, lt=1)
    dropout_cell_input: float = Field(0.75, ge=0, lt=1)
    dropout_embedded: float = Field(0.2, ge=0, lt=1)
    dropout_words: float = Field(0.0, ge=0, lt=1)
    temporal_activation_regularisation: float = Field(1e-3, ge=0)
    weight_range: float = Field(0.04, gt=0, description="weights start uniform in +- this")
    batch_norm_momentum: float = Field(0.1, gt=0, le=1)

    @field_validator("operations")
    @classmethod
    def _known_operations(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        return _check_operations(operations, RECURRENT_OPERATIONS)

    @model_validator(mode="after")
    def _tied(self) -> RecurrentSpace:
        if self.embedding != self.hidden:
            raise ValueError(
                f"embedding {self.embedding} and hidden {self.hidden} must be equal: the decoder is the embedding"
            )
        return self

    def layout(self) -> SpaceLayout:
        """Cells, edges and operations of this space."""
        return recurrent_layout(self.nodes, self.operations)


Space = Annotated[ConvolutionalSpace | RecurrentSpace, Field(discriminator="kind")]
