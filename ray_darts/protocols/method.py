"""The interface of a search method: its architecture parameters, how they mix operations, how they decode.

The relaxation computes the mixing weights of one pass from the architecture parameters. The decode rule computes mixing
probabilities and a genotype from them, in plain Python; watch, trace, genotype and verify all use it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from ray_darts.errors import ConfigError, PluginError
from ray_darts.genotype.decode import Decoding, decode
from ray_darts.genotype.layout import CellLayout, ParameterGroup, SpaceLayout
from ray_darts.protocols.settings import KindSettings

if TYPE_CHECKING:
    from torch import Tensor

    from ray_darts.config.operation import OperationSettings
    from ray_darts.config.search import AlphaOptimiser
    from ray_darts.data.batch import Draws

Order = Literal["first", "second"]
"""Whether the alpha gradient is that of L_val(w, alpha) or of L_val(w', alpha) (arXiv:1806.09055, eq. 6)."""

ORDERS: tuple[Order, ...] = ("first", "second")

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Progress:
    """The position of a pass in a run: `step` of `total_steps` and `epoch` of `epochs`, both from 0.

    Of a search whose stages restart, `epoch` and `epochs` are those from one restart to the next.
    """

    step: int
    total_steps: int
    epoch: int
    epochs: int


@dataclass(frozen=True)
class SupernetOptions:
    """What a method asks of a supernet besides mixing; by default nothing.

    `edge_weights`: the mixing weights have {`edges.<cell>`: [edges]}, which multiply all that an edge adds to its node.
    `partial_channels`: K: only the first 1/K of a state's channels are mixed, the others bypass the operations
    (arXiv:1907.05737).
    `auxiliary_skip`: every edge also adds a skip connection with weights of its own (arXiv:2009.01027); the mixing
    weights then have `auxiliary_skip`, a scalar.
    `skips_zeros`: operations whose mixing weight is exactly 0 are not computed: the same function, for one small read
    by the host in each pass. A space that cannot do so computes them. What is computed one by one ignores
    operation.formulation and the convolutions of operation.kernel.
    `skip_dropout`: skip connections at stride 1 are dropped out in training (arXiv:1904.12760); the mixing weights then
    have `skip_dropout`, the rate, a scalar.
    `layer_mixing`: the mixing weights of a cell may be [cells of its kind, edges, operations], a table for each.
    """

    edge_weights: bool = False
    partial_channels: int = 1
    auxiliary_skip: bool = False
    skips_zeros: bool = False
    layer_mixing: bool = False
    skip_dropout: bool = False

    @property
    def needed(self) -> frozenset[str]:
        """The names of those that change what is computed."""
        asked = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        return frozenset(asked - {"skips_zeros"})

    def within(self, names: Collection[str]) -> SupernetOptions:
        """Those of `names`; the others have their defaults."""
        return replace(NO_OPTIONS, **{name: getattr(self, name) for name in names})


NO_OPTIONS = SupernetOptions()

EDGES = "edges."
"""Before the name of a cell: its entry of the weights of edges, [edges]."""

AUXILIARY_SKIP = "auxiliary_skip"
"""The entry of the weight of the auxiliary skip connections, a scalar."""

SKIP_DROPOUT = "skip_dropout"
"""The entry of the rate at which elements of skip connections are dropped, a scalar."""


@dataclass(frozen=True)
class LayerAlignment:
    """How strongly the cells of a kind are aligned in a weight step, and the length of the finite difference."""

    strength: float
    radius: float


class DecisionPhase(Protocol):
    """A phase after the search: one decision in every kind of cell, then `tune_epochs` epochs, and so on; the learning
    rate of the weights falls along half a cosine over the phase."""

    @property
    def tune_epochs(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...

    @property
    def learning_rate_min(self) -> float: ...

    def epochs(self, layout: SpaceLayout) -> int:
        """Of the whole phase."""
        ...


TrainingLoss = Callable[["Mapping[str, Tensor]"], "tuple[Tensor, dict[str, Tensor]]"]
"""training_loss(mixing weights) -> (loss, its gradient in them): of the step's global training batch, with running
statistics. Every rank calls it as often, as its sums over ranks are collectives."""


class Method(KindSettings, abc.ABC):
    """A search method, with its settings; found by `kind`.

    `task`: the task of its runs.
    """

    task: ClassVar[str] = "search"

    @property
    def orders(self) -> tuple[Order, ...]:
        """The gradient orders that the method defines, of which a run has one; none for a method without gradients."""
        return ORDERS

    def groups(self, layout: SpaceLayout) -> tuple[ParameterGroup, ...]:
        """The architecture parameters in the order of the flat vector; by default one alpha per edge and operation."""
        return layout.alphas

    @property
    def run_prefix(self) -> str:
        """The prefix of the names of this method's runs."""
        return f"{self.kind}-"

    @property
    def supernet_options(self) -> SupernetOptions:
        """What the supernet must be able to do."""
        return NO_OPTIONS

    @property
    def is_smooth(self) -> bool:
        """Whether `weights` has second derivatives in the parameters."""
        return True

    def with_partial_channels(self, parts: int) -> Method:
        """This method where one of `parts` channels goes through the operations, for a stage of a search.

        Raises: ConfigError where it has no partial channels.
        """
        raise ConfigError(f"channels_fraction: the method {self.kind} has no partial channels")

    def with_skip_dropout(self, rate: float) -> Method:
        """This method with another rate of dropout on skip connections, for a stage of a search.

        Raises: ConfigError where it has none.
        """
        raise ConfigError(f"skip_dropout: the method {self.kind} has no dropout on skip connections")

    def mistakes(self, layout: SpaceLayout, alphas: AlphaOptimiser, operation: OperationSettings) -> Iterator[str]:
        """One line per conflict of the method with the layout and these sections of the config."""
        return iter(())

    def moves_alphas(self, progress: Progress) -> bool:
        """Whether a step at `progress` has an alpha step; equal within an epoch. Of a search with stages, `epoch` and
        `epochs` are those of the stage."""
        return True

    @abc.abstractmethod
    def weights(
        self, layout: SpaceLayout, parameters: Mapping[str, Tensor], draws: Draws, progress: Progress
    ) -> Mapping[str, Tensor]:
        """The mixing weights {cell: [edges, operations]} of one pass, differentiable in the parameters; also what
        `supernet_options` asks for.

        `parameters`: {name of a group: tensor}. Called once per pass, and once per micro-batch with search.accumulate;
        all calls for the alpha step (at w, w', w+ and w-, on all ranks) get equal `draws`, those for the weight step
        others. They are the only source of random numbers. The evaluation at an epoch's end has the `progress` of the
        step just done.
        """

    @abc.abstractmethod
    def probabilities(self, cell: CellLayout, parameters: Mapping[str, Rows]) -> list[list[float]]:
        """The mixing probabilities [edge][operation] of a cell by the decode rule, in float64 plain Python.

        `parameters`: {name of a group: rows}, all groups of all cells, rounded to float32.
        """

    def penalty(self, layout: SpaceLayout, parameters: Mapping[str, Tensor], progress: Progress) -> Tensor | None:
        """What is added to the validation loss of the alpha step, a scalar differentiable in the parameters; None:
        nothing. It may not depend on a batch."""
        return None

    def disturbance(
        self,
        layout: SpaceLayout,
        parameters: Mapping[str, Tensor],
        draws: Draws,
        progress: Progress,
        training_loss: TrainingLoss,
    ) -> Mapping[str, Tensor] | None:
        """What disturbs the mixing weights of the training loss, held constant; None: nothing.

        Found once for the weight step, and once for an alpha step of the second order, whose passes at w, w+ and w- all
        use it; `draws` are those of `weights` in that step.
        """
        return None

    def alignment(self, progress: Progress) -> LayerAlignment | None:
        """What a weight step adds to align the cells of a kind; None: nothing. Needs the option `layer_mixing`."""
        return None

    @property
    def perturbation_selection(self) -> DecisionPhase | None:
        """A phase after the search that decides operations by what their removal costs; None: the largest weight
        decides alone."""
        return None

    def disturbed(self, weights: Mapping[str, Tensor], disturbance: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The mixing weights of the training loss, from those of `weights` and `disturbance`."""
        raise PluginError(f"the method {self.kind!r} has a disturbance: wanted is disturbed(weights, disturbance)")

    def draw(self, layout: SpaceLayout, seed: int) -> list[float]:
        """The flat vector of the architecture that a run of the task `draw` ends with, a function of (layout, seed).

        Raises: PluginError for a method that only searches.
        """
        raise PluginError(
            f"the method {self.kind!r} draws no architecture: its task is {self.task!r}, wanted is draw()"
        )

    def decode(self, layout: SpaceLayout, flat: Sequence[float]) -> Decoding:
        """Decode a flat vector of architecture parameters (arXiv:1806.09055, section 2.4).

        The genotype must fit the layout: its operations, kept inputs per node and outputs.
        Raises: NonFiniteAlphas; GenotypeError when the vector does not fit.
        """
        return decode(layout, self.mixing(layout, flat))

    def mixing(self, layout: SpaceLayout, flat: Sequence[float]) -> dict[str, list[list[float]]]:
        """{cell: probabilities [edge][operation]} of a flat vector. Raises: as `decode`."""
        parameters = layout.rows(self.groups(layout), flat)
        return {cell.name: self.probabilities(cell, parameters) for cell in layout.cells}
