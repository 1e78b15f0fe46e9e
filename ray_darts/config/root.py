"""The complete config of a search, its identity and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field, JsonValue, SerializeAsAny, model_validator

from ray_darts.config.kinds import read_dataset, read_method, read_space
from ray_darts.config.operation import OperationSettings, StoreSettings
from ray_darts.config.search import AlphaOptimiser, SearchSettings, WeightOptimiser
from ray_darts.protocols.dataset import Dataset
from ray_darts.protocols.method import Method
from ray_darts.protocols.settings import KindSettings, Settings
from ray_darts.protocols.space import Space

_FIRST_SECTIONS = ("space", "data", "weights", "alphas", "search")
"""The identity of release 0.1; later sections enter a digest only where they differ from their defaults."""

_LOCATION = ("path", "endpoint_url")
"""Settings of `data` that say where the data lies, not what it is."""

_RUNTIME_FIELDS = ("checkpoint_cells", "formulation", "kernel", "compile", "compile_backend")
"""Settings of `operation` that change how a supernet is computed; a space lists those that it uses."""


class SearchConfig(Settings):
    """One search, for any number of seeds and orders.

    The identity (space, data, method, weights, alphas, search) defines what is computed and has a digest; operation,
    store and plugins define how and where, and may differ between commands.
    """

    plugins: tuple[str, ...] = Field((), description="modules that register spaces, methods, operations, data sets")
    space: Annotated[SerializeAsAny[Space], BeforeValidator(read_space)] = Field(default_factory=read_space)
    data: Annotated[SerializeAsAny[Dataset], BeforeValidator(read_dataset)] = Field(default_factory=read_dataset)
    method: Annotated[SerializeAsAny[Method], BeforeValidator(read_method)] = Field(default_factory=read_method)
    weights: WeightOptimiser = Field(default_factory=WeightOptimiser)
    alphas: AlphaOptimiser = Field(default_factory=AlphaOptimiser)
    search: SearchSettings = Field(default_factory=SearchSettings)
    operation: OperationSettings = Field(default_factory=OperationSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)

    @model_validator(mode="after")
    def _sections_fit(self) -> SearchConfig:
        highest = self.operation.worker_range[1]
        mistakes = [
            *self.space.mistakes(self.data, self.search),
            *self._shard_mistakes(highest),
            *self.data.mistakes(self.search, highest),
            *self._unused_settings(),
            *self._compile_mistakes(),
        ]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _shard_mistakes(self, highest: int) -> Iterator[str]:
        """Settings that leave a worker without samples, or batch norm without a full batch."""
        search = self.search
        shard = search.batch_size // highest
        if shard == 0:
            wanted = f"operation.workers {highest} exceeds search.batch_size {search.batch_size}"
            yield f"{wanted}: a worker would have no sample"
        elif search.accumulate > shard:
            samples = f"the {shard} samples of a worker's shard ({highest} workers)"
            yield f"search.accumulate {search.accumulate} exceeds {samples}"
        if search.accumulate > 1 and search.batch_norm == "sync":
            yield "search.batch_norm 'sync' needs search.accumulate 1: each micro-batch is normalised separately"

    def _unused_settings(self) -> Iterator[str]:
        """Settings of `operation` that the space does not use."""
        for name in _RUNTIME_FIELDS:
            changed = getattr(self.operation, name) != OperationSettings.model_fields[name].default
            if changed and name not in self.space.runtime_fields:
                yield f"operation.{name} has no effect on the {self.space.kind} space: leave it out"

    def _compile_mistakes(self) -> Iterator[str]:
        """Settings that torch.compile cannot compile into one graph."""
        passes = self.operation.compile
        if "alpha_training" in passes and self.search.hessian == "exact":
            yield "operation.compile 'alpha_training' needs search.hessian 'finite_difference'"
        if passes and self.operation.kernel == "compiled":
            yield "operation.compile needs operation.kernel 'torch'"
        if passes and self.search.batch_norm == "sync":
            yield "operation.compile needs search.batch_norm 'local': collectives inside a pass are not compiled"

    def identity(self) -> dict[str, JsonValue]:
        """What is computed, as JSON-able data, without what the data set names as uncompared (`Dataset.UNCOMPARED`).

        Sections added after the first release are left out at their defaults: older releases do not know them.
        """
        whole = self.model_dump(mode="json", include=set(_FIRST_SECTIONS))
        for name in self.data.UNCOMPARED:
            whole["data"].pop(name, None)
        if self.method != read_method():
            whole["method"] = self.method.model_dump(mode="json")
        return whole

    def identity_defaults(self) -> dict[str, JsonValue]:
        """The identity of a config that sets nothing but this one's kinds of space and data, every field spelled out.

        A field that an older release did not know has this value for it. Of an experiment without a method that is the
        default method, of one with a method this method's defaults.
        """
        data = _defaults(self.data)
        return {
            "space": _defaults(self.space),
            "data": {name: value for name, value in data.items() if name not in self.data.UNCOMPARED},
            "method": _defaults(self.method) | {"kind": read_method().kind},
            "weights": WeightOptimiser().model_dump(mode="json"),
            "alphas": AlphaOptimiser().model_dump(mode="json"),
            "search": SearchSettings().model_dump(mode="json"),
        }

    def digest(self) -> str:
        """SHA-256 (hex) of the identity without its defaults; it does not change when settings are added later."""
        content = self.model_dump(mode="json", include=set(_FIRST_SECTIONS), exclude_defaults=True)
        for section in ("space", "data"):
            content[section] = {**content.get(section, {}), "kind": getattr(self, section).kind}
        content["data"] = _without_location(content["data"])
        if self.method != read_method():
            content["method"] = self.method.model_dump(mode="json", exclude_defaults=True) | {"kind": self.method.kind}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _without_location(data: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in data.items() if name not in _LOCATION}


def _defaults(settings: KindSettings) -> dict[str, JsonValue]:
    """The defaults of the fields that have one, as JSON-able data."""
    model = type(settings)
    with_default = {name for name, field in model.model_fields.items() if not field.is_required()}
    return model.model_construct(kind=settings.kind).model_dump(mode="json", include=with_default)
