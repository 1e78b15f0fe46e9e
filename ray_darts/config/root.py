"""The complete config of a search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, JsonValue, SerializeAsAny, ValidationError, model_validator

from ray_darts.config.kinds import read_method, read_space
from ray_darts.config.operation import OperationSettings
from ray_darts.config.run import RunConfig, defaults_of
from ray_darts.config.search import AlphaOptimiser, SearchSettings, WeightOptimiser
from ray_darts.config.selection import SelectionSettings
from ray_darts.config.stages import Stage, filled, mistakes_in
from ray_darts.config.training import TrainingConfig
from ray_darts.config.watch import WatchSettings
from ray_darts.errors import ConfigError
from ray_darts.protocols.method import Method
from ray_darts.protocols.settings import KindSettings, mistakes_of
from ray_darts.protocols.space import Space

_SELECTION_RUNS_PER_START = 16
"""Short trainings that one worker group does at least: a start of Ray costs more than one of them on small data."""

_MOST_STAGES = 100

if TYPE_CHECKING:
    from ray_darts.genotype.layout import SpaceLayout
    from ray_darts.protocols.dataset import LoadedData, SearchData


class SearchConfig(RunConfig):
    """One search, for any number of seeds and orders; `selection` is no part of its identity.

    `FIRST_SECTIONS` are those of release 0.1; later sections enter a digest only where they differ from their defaults.
    """

    FIRST_SECTIONS: ClassVar[tuple[str, ...]] = ("space", "data", "weights", "alphas", "search")
    KINDS: ClassVar[tuple[str, ...]] = ("space", "data")
    BATCH_NORM: ClassVar[str] = "search.batch_norm"

    space: Annotated[SerializeAsAny[Space], BeforeValidator(read_space)] = Field(default_factory=read_space)
    method: Annotated[SerializeAsAny[Method], BeforeValidator(read_method)] = Field(default_factory=read_method)
    weights: WeightOptimiser = Field(default_factory=WeightOptimiser)
    alphas: AlphaOptimiser = Field(default_factory=AlphaOptimiser)
    search: SearchSettings = Field(default_factory=SearchSettings)
    watch: WatchSettings = Field(default_factory=WatchSettings)
    stages: tuple[Stage, ...] = Field((), max_length=_MOST_STAGES, description="absent: the search has one")
    selection: SelectionSettings | None = None

    @model_validator(mode="after")
    def _sections_fit(self) -> SearchConfig:
        highest = self.operation.worker_range[1]
        mistakes = [
            *self.space.mistakes(self.data, self.search),
            *self._shard_mistakes("search", self.search, highest),
            *self.data.mistakes(self.search, highest),
            *self._unused_settings(),
            *self._compile_mistakes(),
            *self.method_mistakes(),
            *self._selection_mistakes(),
        ]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _compile_mistakes(self) -> Iterator[str]:
        """Settings that torch.compile cannot compile into one graph."""
        passes = self.operation.compile
        if "alpha_training" in passes and self.search.hessian == "exact":
            yield "operation.compile 'alpha_training' needs search.hessian 'finite_difference'"
        if passes and self.operation.kernel == "compiled":
            yield "operation.compile needs operation.kernel 'torch'"
        if passes and not self.space.can_be_compiled:
            yield (
                "noise and operations of single edges (space.edge_operations) are not compiled: set "
                "operation.compile = []"
            )
        if passes and self.search.batch_norm == "sync":
            yield "operation.compile needs search.batch_norm 'local': collectives inside a pass are not compiled"
        if passes and any(stage.operations_kept is not None for stage in self.stages):
            yield "stages.operations_kept is computed edge by edge, which is not compiled: set operation.compile = []"

    def method_mistakes(self) -> Iterator[str]:
        """Conflicts of the method with the other sections."""
        most = max(len(names) for cell in self.layout().cells for names in cell.operations_by_edge)
        fewest = min([most, *(stage.operations_kept or most for stage in self.stages)])
        bound = self.watch.entropy_below
        if bound is not None and bound >= math.log(fewest):
            yield (
                f"watch.entropy_below {bound:g}: alphas of {fewest} operations that are all equal have the entropy "
                f"{math.log(fewest):.3g}; set a smaller one"
            )
        if not self.stages:
            yield from self._mistakes_of_method()
            return
        yield from mistakes_in(self.stages, self.search.epochs, most)
        yield from self._mistakes_of_stages()
        if self.watch.action == "roll_back":
            yield (
                "watch.action 'roll_back' beside stages, whose networks differ: set watch.action = 'stop', or leave "
                "the stages out"
            )

    def _mistakes_of_stages(self) -> Iterator[str]:
        """Conflicts that a stage has with the other sections; of each text the first stage that has it."""
        seen: set[str] = set()
        for index, stage in enumerate(self.stages):
            try:
                staged = self.at_stage(index)
                found = [*staged.space.mistakes(staged.data, staged.search), *staged._mistakes_of_method()]
            except ValidationError as error:
                found = mistakes_of(error)
            except ConfigError as error:
                found = [str(error)]
            else:
                if staged.method.groups(staged.layout()) != self.method.groups(self.layout()):
                    found.append(
                        "the architecture parameters would be others: set method.partial_channels.edge_weights = false"
                    )
            if self.search.alpha_warmup_epochs >= stage.epochs:
                found.append(
                    f"epochs {stage.epochs}, but search.alpha_warmup_epochs {self.search.alpha_warmup_epochs} of every "
                    "stage leave the alphas frozen: make the stage longer or the warm-up shorter"
                )
            yield from (f"stages[{index}]: {text}" for text in found if text not in seen)
            seen.update(found)

    def _mistakes_of_method(self) -> Iterator[str]:
        space, options = self.space, self.method.supernet_options
        for name in sorted(options.needed - space.supernet_options):
            yield f"the method {self.method.kind} needs {name}, which the supernet of the {space.kind} space has not"
        if options.needed <= space.supernet_options:
            yield from space.option_mistakes(options)
        yield from self.method.mistakes(space.layout(), self.alphas, self.operation)
        if self.watch.action == "roll_back" and self.method.perturbation_selection is not None:
            yield (
                f"watch.action 'roll_back' beside the method {self.method.kind}, whose decisions are not taken back: "
                "set watch.action = 'stop', or leave the method's decoding out"
            )
        if self.watch.eigenvalue is not None and not self.method.is_smooth:
            yield (
                f"watch.eigenvalue needs mixing weights with second derivatives, which those of the method "
                f"{self.method.kind} have not (they are sampled): remove watch.eigenvalue, or watch the other limits"
            )

    def _selection_mistakes(self) -> Iterator[str]:
        """What a training with the selection's sections and the search's data would refuse."""
        if self.selection is None:
            return
        try:
            self.selection_config()
        except ValidationError as error:
            yield from mistakes_of(error, "selection")

    def selection_config(self) -> TrainingConfig:
        """The config of the short trainings that rank the cells. Raises: ConfigError where there is no selection."""
        if self.selection is None:
            raise ConfigError(
                "the config has no section [selection]: give it the sections network, weights and training of a short "
                "training, as the preset digits has them"
            )
        defaults = OperationSettings()
        own = {"checkpoint_cells"} & self.selection.network.runtime_fields
        unused = {name: getattr(defaults, name) for name in {"checkpoint_cells", "formulation", "compile"} - own}
        runs = max(self.operation.runs_per_start, _SELECTION_RUNS_PER_START)
        operation = self.operation.model_copy(update={**unused, "runs_per_start": runs})
        return TrainingConfig(
            plugins=self.plugins,
            data=self.data,
            network=self.selection.network,
            weights=self.selection.weights,
            training=self.selection.training,
            operation=operation,
            store=self.store,
        )

    @property
    def runtime_fields(self) -> frozenset[str]:
        """Those of the space."""
        return self.space.runtime_fields

    @property
    def _computed(self) -> str:
        return f"the {self.space.kind} space"

    @property
    def batch_norm(self) -> Literal["local", "sync"]:
        """As `search.batch_norm`."""
        return self.search.batch_norm

    @property
    def total_epochs(self) -> int:
        """Of the search and the phase that decides operations after it."""
        selection = self.method.perturbation_selection
        return self.search.epochs + (0 if selection is None else selection.epochs(self.layout()))

    def layout(self) -> SpaceLayout:
        """The space's."""
        return self.space.layout()

    def streams(self, loaded: LoadedData, seed: int) -> SearchData:
        """Both halves of the bilevel problem."""
        return loaded.streams(self.search, seed)

    def check_operations(self) -> None:
        """Those of the space."""
        self.space.check_operations()

    @property
    def filled_stages(self) -> tuple[Stage, ...]:
        """At least one; what is absent in one is that of the stage before."""
        return filled(self.stages or (Stage(epochs=self.search.epochs),))

    def at_stage(self, index: int) -> SearchConfig:
        """This config with the space and the method of a stage.

        Raises: ConfigError where they have not what the stage sets; ValidationError where its value does not fit.
        """
        stage = self.filled_stages[index]
        space = self.space if stage.layers is None else self.space.with_layers(stage.layers)
        method = self.method
        if stage.parts is not None and method.orders:
            method = method.with_partial_channels(stage.parts)
        if stage.skip_dropout is not None and method.orders:
            method = method.with_skip_dropout(stage.skip_dropout)
        return self.model_copy(update={"space": space, "method": method})

    def with_method(self, settings: Mapping[str, JsonValue] | None) -> SearchConfig:
        """This config with another method's settings; None for its own."""
        return self if settings is None else self.model_copy(update={"method": read_method(dict(settings))})

    def identity(self) -> dict[str, JsonValue]:
        """Also the method, where it is not the default one: the first release knew no other."""
        whole = super().identity()
        defaults = defaults_of(self.space)
        settings = self.space.model_dump(mode="json")
        later = {name for name in self.space.ADDED if settings[name] == defaults[name]}
        whole["space"] = {name: value for name, value in settings.items() if name not in later}
        if self.method != read_method():
            whole["method"] = self.method.model_dump(mode="json")
        if self.watch != WatchSettings():
            whole["watch"] = self.watch.model_dump(mode="json")
        if self.stages:
            whole["stages"] = [stage.model_dump(mode="json", exclude_defaults=True) for stage in self.stages]
        return whole

    def identity_defaults(self) -> dict[str, JsonValue]:
        """Of an experiment without a method the default method, of one with a method this method's defaults."""
        return {
            "space": defaults_of(self.space),
            "data": {name: value for name, value in defaults_of(self.data).items() if name not in self.data.UNCOMPARED},
            "method": defaults_of(self.method) | {"kind": read_method().kind},
            "weights": WeightOptimiser().model_dump(mode="json"),
            "alphas": AlphaOptimiser().model_dump(mode="json"),
            "search": SearchSettings().model_dump(mode="json"),
            "watch": WatchSettings().model_dump(mode="json"),
            "stages": [],
        }

    def _digested(self) -> dict[str, JsonValue]:
        content = super()._digested()
        if self.method != read_method():
            content["method"] = _without_defaults(self.method)
        if self.watch != WatchSettings():
            content["watch"] = self.watch.model_dump(mode="json", exclude_defaults=True)
        if self.stages:
            content["stages"] = [stage.model_dump(mode="json", exclude_defaults=True) for stage in self.stages]
        return content


def _without_defaults(settings: KindSettings) -> dict[str, JsonValue]:
    """The settings that differ from the defaults of their kind, and each kind."""
    content: dict[str, JsonValue] = settings.model_dump(mode="json", exclude_defaults=True)
    for name in content:
        value = getattr(settings, name)
        if isinstance(value, KindSettings):
            content[name] = _without_defaults(value)
    return content | {"kind": settings.kind}
