"""The interface of a search space: its settings, its layout, its networks, and its names for drawings.

A space is data and plain Python; it imports its supernet and its derived network when it builds them.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from ray_darts.errors import ConfigError, GenotypeError
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import SpaceLayout
from ray_darts.protocols.dataset import DataFacts, Dataset
from ray_darts.protocols.method import NO_OPTIONS, SupernetOptions
from ray_darts.protocols.settings import KindSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ray_darts.config.operation import OperationSettings
    from ray_darts.config.search import SearchSettings
    from ray_darts.spaces.supernet import Supernet


class Ranking(NamedTuple):
    """The metric that ranks runs (`accuracy` is reported as `validation_accuracy`), and its direction."""

    metric: str
    direction: Literal["max", "min"]


class CellWords(NamedTuple):
    """Names for drawings and texts: of a cell's inputs, of how its output joins states, and of its output."""

    inputs: tuple[str, ...]
    join: str
    output: str


class NetworkSettings(KindSettings):
    """The sizes of a space's derived networks; `kind` is the space's.

    `data_forms`: the forms of batches that they take. `unused_settings`: fields of TrainingSettings without effect.
    `runtime_fields`: the settings of `operation` that they use, of those that change how a network is computed.
    """

    data_forms: ClassVar[tuple[str, ...]] = ()
    runtime_fields: ClassVar[frozenset[str]] = frozenset({"compile", "compile_backend"})
    unused_settings: ClassVar[frozenset[str]] = frozenset()


class Space(KindSettings, abc.ABC):
    """A search space, with its settings; found by `kind`.

    `data_forms`: the forms of batches that its supernet takes, as data sets name them. `ranking`: its interim
    metric. `words`: its names for drawings.
    `runtime_fields`: the settings of `operation` that it uses, of those that change how a supernet is computed.
    `supernet_options`: the names of `SupernetOptions` that its supernet can have.
    `ADDED`: settings that came after the first release; an identity leaves them out at their defaults.
    `published`: {name: text form} of cells that a paper published. `network_settings`: the options of `network`.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset()

    data_forms: ClassVar[tuple[str, ...]]
    ranking: ClassVar[Ranking]
    words: ClassVar[CellWords]
    runtime_fields: ClassVar[frozenset[str]] = frozenset()
    supernet_options: ClassVar[frozenset[str]] = frozenset()
    published: ClassVar[Mapping[str, str]] = {}
    network_settings: ClassVar[type[NetworkSettings]] = NetworkSettings

    @abc.abstractmethod
    def layout(self) -> SpaceLayout:
        """Cells, edges and operations of this space."""

    @abc.abstractmethod
    def supernet(
        self,
        facts: DataFacts,
        runtime: OperationSettings,
        device: torch.device,
        options: SupernetOptions = NO_OPTIONS,
    ) -> Supernet:
        """A new supernet on the CPU, in float32, its weights drawn from PyTorch's global generator.

        `device` is where it will run: it may decide how the same function is computed. `options` is given only to a
        space that has `supernet_options`, and asks for nothing else.
        """

    def with_layers(self, layers: int) -> Space:
        """This space with another number of cells in its supernet, for a stage of a search.

        Raises: ConfigError where it has no such setting; ValidationError where the number does not fit.
        """
        raise ConfigError(f"layers: the {self.kind} space has no number of layers to set")

    @property
    def can_be_compiled(self) -> bool:
        """Whether torch.compile takes a pass of the supernet as one graph."""
        return True

    def option_mistakes(self, options: SupernetOptions) -> Iterator[str]:
        """One line per option that the supernet can have, but not with these settings of the space."""
        return iter(())

    def check_operations(self) -> None:
        """Test users' operations before a search. Raises: ConfigError naming one and its mistake."""

    @classmethod
    def network(cls, genotype: Genotype, facts: DataFacts, **options: object) -> nn.Module:
        """The network of a genotype, to be trained from scratch: a `spaces.derived.DerivedNetwork`, if this package
        is to train it; options: `network_settings`. Raises: ConfigError on unknown options."""
        raise GenotypeError(f"the space {genotype.space!r} builds no network of a genotype")

    @classmethod
    def layout_of(cls, genotype: Genotype) -> SpaceLayout | None:
        """The layout that a genotype of unknown settings must fit: its number of nodes, all operations known here.

        None: only the genotype's own structure can be checked.
        """
        return None

    @classmethod
    def to_text(cls, genotype: Genotype) -> str:
        """The text form used in the space's literature. Raises: GenotypeError when there is none."""
        raise GenotypeError(f"the space {genotype.space!r} has no text form: use JSON")

    @classmethod
    def from_text(cls, text: str) -> Genotype | None:
        """Read `to_text`'s form; None when the text is of another form. Raises: GenotypeError naming what is wrong."""
        return None

    def mistakes(self, data: Dataset, search: SearchSettings) -> Iterator[str]:
        """One line per conflict of the space with these data and these settings."""
        if data.form not in self.data_forms:
            yield f"a {self.kind} space needs {' or '.join(self.data_forms)}; data.kind {data.kind!r} is {data.form}"
