"""What the config of every task has: where its data lie, how and where it runs, its identity and its digest."""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import BeforeValidator, Field, JsonValue, SerializeAsAny

from ray_darts.config.kinds import read_dataset
from ray_darts.config.operation import OperationSettings, StoreSettings
from ray_darts.genotype.layout import SpaceLayout
from ray_darts.protocols.dataset import Dataset
from ray_darts.protocols.settings import KindSettings, Settings

if TYPE_CHECKING:
    from ray_darts.protocols.dataset import LoadedData, TaskData

_LOCATION = ("path", "endpoint_url", "test_path", "validation_path")
"""Settings of `data` that say where the data lies, not what it is."""


_RUNTIME_FIELDS = ("checkpoint_cells", "formulation", "kernel", "compile", "compile_backend")
"""Settings of `operation` that change how a network is computed."""


class BatchSettings(Protocol):
    """How large a batch is, and how it is normalised."""

    @property
    def batch_size(self) -> int: ...

    @property
    def accumulate(self) -> int: ...

    @property
    def batch_norm(self) -> str: ...


class RunConfig(Settings, abc.ABC):
    """The config of one experiment, whatever task its runs do.

    The identity defines what is computed and has a digest; operation, store and plugins define how and where, and may
    differ between commands. `FIRST_SECTIONS`: the sections of the identity; `KINDS`: those of them with a `kind`;
    `BATCH_NORM`: the setting that `batch_norm` reads, for messages.
    """

    FIRST_SECTIONS: ClassVar[tuple[str, ...]]
    KINDS: ClassVar[tuple[str, ...]]
    BATCH_NORM: ClassVar[str]

    plugins: tuple[str, ...] = Field((), description="modules that register spaces, methods, operations, data sets")
    data: Annotated[SerializeAsAny[Dataset], BeforeValidator(read_dataset)] = Field(default_factory=read_dataset)
    operation: OperationSettings = Field(default_factory=OperationSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)

    def _shard_mistakes(self, section: str, settings: BatchSettings, highest: int) -> Iterator[str]:
        """Settings that leave one of `highest` workers without samples, or batch norm without a full batch."""
        shard = settings.batch_size // highest
        if shard == 0:
            wanted = f"operation.workers {highest} exceeds {section}.batch_size {settings.batch_size}"
            yield f"{wanted}: a worker would have no sample"
        elif settings.accumulate > shard:
            samples = f"the {shard} samples of a worker's shard ({highest} workers)"
            yield f"{section}.accumulate {settings.accumulate} exceeds {samples}"
        if settings.accumulate > 1 and settings.batch_norm == "sync":
            yield f"{section}.batch_norm 'sync' needs {section}.accumulate 1: each micro-batch is normalised separately"

    @property
    @abc.abstractmethod
    def runtime_fields(self) -> frozenset[str]:
        """The settings of `operation` that its runs use, of those that change how a network is computed."""

    def _unused_settings(self) -> Iterator[str]:
        """Settings of `operation` that change how a network is computed, and that this one does not use."""
        for name in _RUNTIME_FIELDS:
            changed = getattr(self.operation, name) != OperationSettings.model_fields[name].default
            if changed and name not in self.runtime_fields:
                yield f"operation.{name} has no effect on {self._computed}: leave it out"

    @property
    @abc.abstractmethod
    def _computed(self) -> str:
        """What the runs compute, for messages."""

    @property
    @abc.abstractmethod
    def batch_norm(self) -> Literal["local", "sync"]:
        """Whose statistics normalise a batch: of each rank's shard, or of the global batch."""

    @abc.abstractmethod
    def layout(self) -> SpaceLayout:
        """The layout of the architecture parameters; without cells for a task that has none."""

    @abc.abstractmethod
    def streams(self, loaded: LoadedData, seed: int) -> TaskData:
        """The streams of one seed of loaded data. Raises: DataError when the data is too small."""

    def check_operations(self) -> None:
        """Test users' operations before anything runs. Raises: ConfigError naming one and its mistake."""

    @abc.abstractmethod
    def identity_defaults(self) -> dict[str, JsonValue]:
        """The identity of a config that sets nothing but this one's kinds, every field spelled out.

        A field that an older release did not know has this value for it.
        """

    def identity(self) -> dict[str, JsonValue]:
        """What is computed, as JSON-able data, without what the data set names as uncompared (`Dataset.UNCOMPARED`).

        A field that the data set added after its first release (`Dataset.ADDED`) is left out at its default.
        """
        whole = self.model_dump(mode="json", include=set(self.FIRST_SECTIONS))
        whole["data"] = self._compared(whole["data"])
        return whole

    def digest(self) -> str:
        """SHA-256 (hex) of the identity without its defaults; it does not change when settings are added later."""
        content = self._digested()
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def _digested(self) -> dict[str, JsonValue]:
        content = self.model_dump(mode="json", include=set(self.FIRST_SECTIONS), exclude_defaults=True)
        for section in self.KINDS:
            content[section] = {**content.get(section, {}), "kind": getattr(self, section).kind}
        content["data"] = {name: value for name, value in content["data"].items() if name not in _LOCATION}
        return content

    def _compared(self, data: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """The settings of `data` that are part of the identity."""
        defaults = defaults_of(self.data)
        added = {name for name in self.data.ADDED if data.get(name) == defaults.get(name)}
        return {name: value for name, value in data.items() if name not in self.data.UNCOMPARED | added}


def defaults_of(settings: KindSettings) -> dict[str, JsonValue]:
    """The defaults of the fields that have one, as JSON-able data."""
    model = type(settings)
    with_default = {name for name, field in model.model_fields.items() if not field.is_required()}
    return model.model_construct(kind=settings.kind).model_dump(mode="json", include=with_default)
