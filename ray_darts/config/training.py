"""The complete config of a training: a derived network, its data, its optimiser, its regularisation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, JsonValue, SerializeAsAny, model_validator

from ray_darts.config.kinds import read_network
from ray_darts.config.run import RunConfig, defaults_of
from ray_darts.config.sgd import SgdSettings
from ray_darts.errors import ConfigError, DataError
from ray_darts.genotype.layout import SpaceLayout
from ray_darts.protocols.dataset import TrainableData
from ray_darts.protocols.settings import Settings
from ray_darts.protocols.space import NetworkSettings

if TYPE_CHECKING:
    from ray_darts.genotype.genotype import Genotype
    from ray_darts.protocols.dataset import LoadedData, TrainingData


class TrainingOptimiser(SgdSettings):
    """SGD; the learning rate follows `schedule` per epoch, after a linear warm-up."""

    learning_rate_min: float = Field(0.0, ge=0, description="end of the cosine")
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    decay: float = Field(0.97, gt=0, le=1, description="factor per epoch of the exponential schedule")
    warmup_epochs: int = Field(0, ge=0, description="epoch e of these has (e + 1) / warmup_epochs of its rate")
    nesterov: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> TrainingOptimiser:
        if self.learning_rate_min > self.learning_rate:
            raise ValueError(f"learning_rate_min {self.learning_rate_min} exceeds {self.learning_rate}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum")
        return self

    @property
    def is_nesterov(self) -> bool:
        """As `nesterov`."""
        return self.nesterov

    def rate(self, epoch: int, epochs: int) -> float:
        """The schedule's rate, times the warm-up's factor."""
        rate = self.learning_rate
        if self.schedule == "cosine":
            rate = self.cosine(epoch, epochs)
        elif self.schedule == "exponential":
            rate *= self.decay**epoch
        return rate * min(1.0, (epoch + 1) / self.warmup_epochs) if self.warmup_epochs else rate


class TrainingSettings(Settings):
    """Length, regularisation and numerical methods of a training, and which weights are tested."""

    epochs: int = Field(600, ge=1, le=100_000)
    batch_size: int = Field(96, ge=1, le=1_000_000, description="global: over all workers")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="in the training loss only")
    auxiliary_weight: float = Field(
        0.0, ge=0, description="weight of the auxiliary head's loss; 0: no head; off where maps are too small for it"
    )
    drop_path: float = Field(0.0, ge=0, lt=1, description="probability at the end; in epoch e of E it is e / E of this")
    cutout: int = Field(0, ge=0, description="side of the square of each training image that is set to the mean")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: the loss of a class is weighted by 1 / its samples"
    )
    precision: Literal["float64", "float32", "tf32", "bfloat16"] = "float32"
    batch_norm: Literal["local", "sync"] = "local"
    accumulate: int = Field(1, ge=1, description="micro-batches per pass; batch norm normalises each separately")
    hold_out: bool = Field(
        True, description="train on the weight half and validate on the alpha half; false: train on both"
    )
    tested: Literal["last", "best"] = Field("last", description="weights that are scored: last, or best by validation")
    test: bool = Field(True, description="open the test set once, at the end")
    average_after: int | None = Field(
        None,
        ge=1,
        description="non-monotonic ASGD: average the weights once the validation loss exceeds the least of all but "
        "the last so many epochs",
    )
    restores: int = Field(
        0, ge=0, description="times that the best weights are restored after a step that is not finite"
    )

    @model_validator(mode="after")
    def _consistent(self) -> TrainingSettings:
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate {self.accumulate} exceeds batch_size {self.batch_size}")
        if not self.hold_out:
            needing = {
                "tested 'best'": self.tested == "best",
                "average_after": self.average_after,
                "restores": self.restores,
            }
            named = [name for name, wanted in needing.items() if wanted]
            if named:
                raise ValueError(f"{' and '.join(named)} needs hold_out: without it nothing is validated")
        return self


class TrainingConfig(RunConfig):
    """One training from scratch, for any number of genotypes and seeds. Its identity: network, data, weights, training.

    `data`: as of a search; its weight half is trained on, its alpha half (`data.alpha_fraction`) validates.
    """

    FIRST_SECTIONS: ClassVar[tuple[str, ...]] = ("network", "data", "weights", "training")
    KINDS: ClassVar[tuple[str, ...]] = ("network", "data")
    BATCH_NORM: ClassVar[str] = "training.batch_norm"

    network: Annotated[SerializeAsAny[NetworkSettings], BeforeValidator(read_network)] = Field(
        default_factory=read_network
    )
    weights: TrainingOptimiser = Field(default_factory=TrainingOptimiser)
    training: TrainingSettings = Field(default_factory=TrainingSettings)

    @model_validator(mode="after")
    def _sections_fit(self) -> TrainingConfig:
        highest = self.operation.worker_range[1]
        mistakes = [
            *self._network_mistakes(),
            *self._shard_mistakes("training", self.training, highest),
            *self.data.training_mistakes(self.training, highest),
            *self._unused_settings(),
            *self._compile_mistakes(),
        ]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _network_mistakes(self) -> Iterator[str]:
        forms = self.network.data_forms
        if self.data.form not in forms:
            data = f"data.kind {self.data.kind!r} is {self.data.form}"
            yield f"a {self.network.kind} network needs {' or '.join(forms)}; {data}"
        for name in sorted(self.network.unused_settings & _changed(self.training)):
            yield f"training.{name} has no effect on a {self.network.kind} network: leave it out"
        if self.training.average_after is not None and self.data.form == "images":
            yield "training.average_after is for text: running statistics of batch norm do not fit averaged weights"
        if getattr(self.network, "auxiliary", False):
            yield "network.auxiliary follows from training.auxiliary_weight: leave it out"

    def check_genotype(self, genotype: Genotype) -> None:
        """Raises: ConfigError where its network is of another kind."""
        if genotype.space != self.network.kind:
            raise ConfigError(
                f"a genotype of space {genotype.space!r} cannot be trained with network.kind {self.network.kind!r}: "
                f"choose a preset or config with network.kind={genotype.space}"
            )

    def _compile_mistakes(self) -> Iterator[str]:
        operation = self.operation
        if operation.compile not in ((), ("training",)):
            yield "operation.compile: a training has the pass 'training' only"
        if operation.compile and self.training.drop_path > 0:
            yield "operation.compile needs training.drop_path 0: each epoch would be compiled again"
        if operation.compile and "text" in self.network.data_forms:
            yield "operation.compile: windows of text have random lengths, each would be compiled again"
        if operation.compile and operation.kernel == "compiled":
            yield "operation.compile needs operation.kernel 'torch'"
        if operation.compile and self.training.batch_norm == "sync":
            yield "operation.compile needs training.batch_norm 'local': collectives inside a pass are not compiled"

    @property
    def runtime_fields(self) -> frozenset[str]:
        """Those of the network."""
        return self.network.runtime_fields

    @property
    def _computed(self) -> str:
        return f"a {self.network.kind} network"

    @property
    def batch_norm(self) -> Literal["local", "sync"]:
        """As `training.batch_norm`."""
        return self.training.batch_norm

    def layout(self) -> SpaceLayout:
        """A training has no architecture parameters."""
        return SpaceLayout(self.network.kind, (), "", frozenset())

    def streams(self, loaded: LoadedData, seed: int) -> TrainingData:
        """The training batches, the validation part, and the closed test set."""
        if not isinstance(loaded, TrainableData):
            raise DataError(f"data.kind {self.data.kind!r} can be searched, not trained on: it has no training_streams")
        return loaded.training_streams(self.training, seed)

    def identity_defaults(self) -> dict[str, JsonValue]:
        """Of the same kinds of network and data."""
        return {
            "network": defaults_of(self.network),
            "data": {name: value for name, value in defaults_of(self.data).items() if name not in self.data.UNCOMPARED},
            "weights": TrainingOptimiser().model_dump(mode="json"),
            "training": TrainingSettings().model_dump(mode="json"),
        }


def _changed(settings: Settings) -> set[str]:
    """Names of the fields that are not at their defaults."""
    return set(settings.model_dump(exclude_defaults=True))
