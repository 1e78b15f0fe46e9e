"""The whole of what can be asked for, its identity and its digest."""

from __future__ import annotations

import hashlib
import json

from pydantic import Field, JsonValue, model_validator

from ray_darts.config.base import Settings
from ray_darts.config.data import Data, ImageData, TextData
from ray_darts.config.operation import Operation, StoreSettings
from ray_darts.config.search import AlphaOptimiser, SearchSettings, WeightOptimiser
from ray_darts.config.space import ConvolutionalSpace, Space

_IDENTITY_SECTIONS = ("space", "data", "weights", "alphas", "search")


class SearchConfig(Settings):
    """One search, for any number of seeds and orders.

    Identity (space, data, weights, alphas, search) says what is computed and is digested; operation and store say
    how and where, and may differ from one command to the next.
    """

    space: Space = Field(default_factory=ConvolutionalSpace)
    data: Data = Field(default_factory=ImageData)
    weights: WeightOptimiser = Field(default_factory=WeightOptimiser)
    alphas: AlphaOptimiser = Field(default_factory=AlphaOptimiser)
    search: SearchSettings = Field(default_factory=SearchSettings)
    operation: Operation = Field(default_factory=Operation)
    store: StoreSettings = Field(default_factory=StoreSettings)

    @model_validator(mode="after")
    def _space_fits_data(self) -> SearchConfig:
        wanted = {"convolutional": "images", "recurrent": "text"}[self.space.kind]
        if self.data.kind != wanted:
            raise ValueError(f"a {self.space.kind} space needs data of kind {wanted!r}, not {self.data.kind!r}")
        highest = self.operation.worker_range[1]
        if highest > self.search.batch_size:
            raise ValueError(
                f"operation.workers {highest} exceeds search.batch_size {self.search.batch_size}: "
                "a worker would have no sample"
            )
        if isinstance(self.data, TextData) and self.data.evaluation_batch_size < 2 * highest:
            raise ValueError(
                f"data.evaluation_batch_size {self.data.evaluation_batch_size} leaves a worker fewer than 2 columns, "
                f"too few for batch norm ({highest} workers)"
            )
        if self.search.accumulate > self.search.batch_size // highest:
            raise ValueError(
                f"search.accumulate {self.search.accumulate} exceeds the {self.search.batch_size // highest} samples "
                f"of a worker's shard (search.batch_size {self.search.batch_size}, {highest} workers)"
            )
        return self

    def identity(self) -> dict[str, JsonValue]:
        """What is computed, as JSON-able data; where the data lies (`data.path`) is left out."""
        whole = self.model_dump(mode="json", include=set(_IDENTITY_SECTIONS))
        whole["data"].pop("path", None)
        return whole

    def digest(self) -> str:
        """SHA-256 (hex) of the identity without its defaults, so that a later setting leaves old digests alone."""
        told = self.model_dump(mode="json", include=set(_IDENTITY_SECTIONS), exclude_defaults=True)
        for section in ("space", "data"):
            told[section] = {**told.get(section, {}), "kind": getattr(self, section).kind}
        told["data"].pop("path", None)
        return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
