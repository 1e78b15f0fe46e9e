"""The whole of what can be asked for, its identity and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from pydantic import Field, JsonValue, model_validator

from ray_darts.config.base import Settings
from ray_darts.config.data import Data, ImageData, TextData
from ray_darts.config.operation import Operation, StoreSettings
from ray_darts.config.search import AlphaOptimiser, SearchSettings, WeightOptimiser
from ray_darts.config.space import ConvolutionalSpace, RecurrentSpace, Space

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
        mistakes = [*self._shard_mistakes(), *self._unused_settings(), *self._compile_mistakes()]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _shard_mistakes(self) -> Iterator[str]:
        """What leaves a worker without samples, or batch norm without a batch."""
        search, highest = self.search, self.operation.worker_range[1]
        shard = search.batch_size // highest
        if shard == 0:
            wanted = f"operation.workers {highest} exceeds search.batch_size {search.batch_size}"
            yield f"{wanted}: a worker would have no sample"
        elif search.accumulate > shard:
            samples = f"the {shard} samples of a worker's shard ({highest} workers)"
            yield f"search.accumulate {search.accumulate} exceeds {samples}"
        elif isinstance(self.data, TextData) and shard // search.accumulate < 2:
            yield "batch norm on text needs 2 columns in each micro-batch of each worker: raise search.batch_size"
        if search.accumulate > 1 and search.batch_norm == "sync":
            yield "search.batch_norm 'sync' needs search.accumulate 1: micro-batches are normalised each alone"
        if isinstance(self.data, TextData) and self.data.evaluation_batch_size < 2 * highest:
            yield (
                f"data.evaluation_batch_size {self.data.evaluation_batch_size} leaves a worker fewer than 2 columns, "
                f"too few for batch norm ({highest} workers)"
            )

    def _unused_settings(self) -> Iterator[str]:
        """What the space would accept and ignore."""
        if isinstance(self.space, RecurrentSpace):
            for name in ("checkpoint_cells", "formulation", "kernel", "compile", "compile_backend"):
                if getattr(self.operation, name) != Operation.model_fields[name].default:
                    yield f"operation.{name} is for convolutional spaces"

    def _compile_mistakes(self) -> Iterator[str]:
        """What torch.compile cannot take whole."""
        passes = self.operation.compile
        if "alpha_training" in passes and self.search.hessian == "exact":
            yield "operation.compile 'alpha_training' needs search.hessian 'finite_difference'"
        if passes and self.operation.kernel == "compiled":
            yield "operation.compile needs operation.kernel 'torch'"
        if passes and self.search.batch_norm == "sync":
            yield "operation.compile needs search.batch_norm 'local': collectives inside a pass are for proofs"

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
