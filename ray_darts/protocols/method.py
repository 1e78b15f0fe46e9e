"""The interface of a search method: its architecture parameters, how they mix operations, how they decode.

The relaxation computes the mixing weights of one pass from the architecture parameters. The decode rule computes mixing
probabilities and a genotype from them, in plain Python; watch, trace, genotype and verify all use it.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ray_darts.errors import PluginError
from ray_darts.genotype.decode import Decoding, decode
from ray_darts.genotype.layout import ParameterGroup, SpaceLayout
from ray_darts.protocols.settings import KindSettings

if TYPE_CHECKING:
    from torch import Tensor

    from ray_darts.data.batch import Draws

Order = Literal["first", "second"]
"""Whether the alpha gradient is that of L_val(w, alpha) or of L_val(w', alpha) (arXiv:1806.09055, eq. 6)."""

ORDERS: tuple[Order, ...] = ("first", "second")

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Progress:
    """The position of a pass in a run: `step` of `total_steps` and `epoch` of `epochs`, both from 0."""

    step: int
    total_steps: int
    epoch: int
    epochs: int


class Method(KindSettings, abc.ABC):
    """A search method, with its settings; found by `kind`.

    `orders`: the gradient orders that the method defines, of which a run has one; none for a method without gradients.
    `task`: the task of its runs.
    """

    orders: ClassVar[tuple[Order, ...]] = ORDERS
    task: ClassVar[str] = "search"

    def groups(self, layout: SpaceLayout) -> tuple[ParameterGroup, ...]:
        """The architecture parameters in the order of the flat vector; by default one alpha per edge and operation."""
        return layout.alphas

    @property
    def run_prefix(self) -> str:
        """The prefix of the names of this method's runs."""
        return f"{self.kind}-"

    @abc.abstractmethod
    def weights(self, parameters: Mapping[str, Tensor], draws: Draws, progress: Progress) -> Mapping[str, Tensor]:
        """The mixing weights {cell: [edges, operations]} of one pass, differentiable in the parameters.

        `parameters`: {name of a group: tensor}. Called once per pass, and once per micro-batch with search.accumulate;
        all calls for the alpha step (at w, w', w+ and w-, on all ranks) get equal `draws`, those for the weight step
        others. They are the only source of random numbers. The evaluation at an epoch's end has the `progress` of the
        step just done.
        """

    @abc.abstractmethod
    def probabilities(self, cell: str, parameters: Mapping[str, Rows]) -> list[list[float]]:
        """The mixing probabilities [edge][operation] of a cell by the decode rule, in float64 plain Python.

        `parameters`: {name of a group: rows}, all groups of all cells, rounded to float32.
        """

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
        return {cell.name: self.probabilities(cell.name, parameters) for cell in layout.cells}
